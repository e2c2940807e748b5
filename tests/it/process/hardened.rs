//! What the process does not do: leave a core dump, or trust a certificate that is not to be trusted.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a helper fails its test by a panic"
)]

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use golive::clock::ServerClock;
use golive::net::{
    probe::{Ask, Door, Probe, ProbeError},
    resolve::Resolve,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::{io::AsyncWriteExt, net::TcpListener};

use crate::support::{env::Env, trouble::options};

const LIMIT: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_leaves_no_core_dump() {
    let mut env = Env::without_operator(options()).await;
    env.start_operator_process(&[]);
    let pid = env.operator_pid().unwrap();
    let end = std::time::Instant::now() + LIMIT;
    loop {
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let cores = limits
            .lines()
            .find(|line| line.starts_with("Max core file"));
        let numbers: Vec<&str> = cores.unwrap().split_whitespace().skip(4).take(2).collect();
        if numbers == ["0", "0"] {
            break;
        }
        assert!(std::time::Instant::now() < end, "{numbers:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A server whose certificate is for this name, and valid until this year.
async fn serve(issuer: Option<&CertifiedIssuer<'_, KeyPair>>, name: &str, year: i32) -> SocketAddr {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(year, 1, 1);
    let key = KeyPair::generate().unwrap();
    let certificate = match issuer {
        Some(issuer) => params.signed_by(&key, issuer).unwrap(),
        None => params.self_signed(&key).unwrap(),
    };
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    let answer =
                        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                    stream.write_all(answer).await.ok();
                    stream.shutdown().await.ok();
                }
            });
        }
    });
    address
}

async fn ask(host: &str, address: SocketAddr, ca: Option<&Path>) -> Result<u16, ProbeError> {
    let resolve = Resolve::parse(&format!("{host}:443={address}")).unwrap();
    let probe = Probe::new(&[resolve], ca, &ServerClock::of_kubernetes()).unwrap();
    let ask = Ask {
        door: Door::HTTPS,
        method: hyper::Method::GET,
        path: "/",
        limit: 1024,
        wanted: &[200],
        any_answer: false,
    };
    probe
        .request(host, &ask, LIMIT)
        .await
        .map(|answer| answer.status)
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_or_is_of_another_name_is_refused() {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, issuer.pem()).unwrap();
    let host = "right.example.org";
    let good = serve(Some(&issuer), host, 4000).await;
    assert_eq!(ask(host, good, Some(&ca)).await, Ok(200));
    let refused = |host: &str| Err(ProbeError::Tls(host.to_owned()));
    let other = "other.example.org";
    assert_eq!(
        ask(other, good, Some(&ca)).await,
        refused(other),
        "another name"
    );
    assert_eq!(
        ask(host, good, None).await,
        refused(host),
        "an unknown authority"
    );
    let expired = serve(Some(&issuer), host, 2021).await;
    assert_eq!(
        ask(host, expired, Some(&ca)).await,
        refused(host),
        "expired"
    );
    let own = serve(None, host, 4000).await;
    assert_eq!(
        ask(host, own, Some(&ca)).await,
        refused(host),
        "self-signed"
    );
}
