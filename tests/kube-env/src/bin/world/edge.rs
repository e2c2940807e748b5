//! A request to the application as a visitor makes it: by its public name, over TLS, through the
//! edge of the simulated Fly.io.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;

use crate::fault::Fault;

const LIMIT: Duration = Duration::from_secs(20);

/// Most that is read of an answer, in bytes.
const BODY: usize = 256 * 1024;

/// What the application answered.
pub struct Answer {
    /// Status line, for example `200 OK`.
    pub status: http::StatusCode,
    /// The text.
    pub body: String,
}

/// `GET url`, where the name of the host stands for the edge.
pub async fn get(url: &str, env: &BTreeMap<String, String>) -> Result<Answer, Fault> {
    match tokio::time::timeout(LIMIT, request(url, env)).await {
        Ok(answer) => answer,
        Err(_) => Err(Fault::new(format!("{url} did not answer within {LIMIT:?}"))),
    }
}

async fn request(url: &str, env: &BTreeMap<String, String>) -> Result<Answer, Fault> {
    fn cannot<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
        doing: &str,
        url: &str,
    ) -> impl FnOnce(E) -> Fault {
        let what = format!("cannot {doing} {url}");
        move |source| Fault::because(what, source)
    }
    let uri: http::Uri = url.parse().map_err(cannot("read the URL", url))?;
    let host = uri.host().unwrap_or_default().to_owned();
    let name = ServerName::try_from(host.clone()).map_err(cannot("read the URL", url))?;
    let edge = env
        .get("FLY_SIM_EDGE")
        .map(String::as_str)
        .unwrap_or_default();
    let authorities = env
        .get("SSL_CERT_FILE")
        .map(String::as_str)
        .unwrap_or_default();

    let mut roots = rustls::RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(authorities)
        .map_err(cannot("read the certificates for", url))?;
    roots.add_parsable_certificates(certificates.flatten());
    let tls = rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(edge)
        .await
        .map_err(cannot("connect to the edge for", url))?;
    let stream = tokio_rustls::TlsConnector::from(Arc::new(tls))
        .connect(name, stream)
        .await
        .map_err(cannot("agree on TLS with", url))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(cannot("speak HTTP with", url))?;
    let connection = tokio::spawn(connection);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::get(path)
        .header("host", host)
        .header("user-agent", "golive-demo")
        .body(Empty::<Bytes>::new())
        .map_err(cannot("build a request for", url))?;
    let response = sender
        .send_request(request)
        .await
        .map_err(cannot("get an answer from", url))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), BODY)
        .collect()
        .await
        .map_err(cannot("read the answer of", url))?
        .to_bytes();
    connection.abort();
    Ok(Answer {
        status,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}

/// What a page shows, roughly: its text without markup, on one line, cut.
pub fn readable(body: &str) -> String {
    const WIDTH: usize = 200;
    let mut text = String::new();
    let mut rest = body;
    // What a browser does not show.
    while let Some(open) = rest.find('<') {
        text.push_str(&rest[..open]);
        text.push(' ');
        let tag = &rest[open..];
        let hidden = ["script", "style"]
            .into_iter()
            .find(|name| tag[1..].starts_with(name));
        let close = match hidden {
            Some(name) => tag.find(&format!("</{name}>")).map(|i| i + name.len() + 3),
            None => tag.find('>').map(|i| i + 1),
        };
        rest = close.map_or("", |close| &tag[close..]);
    }
    text.push_str(rest);
    let words: Vec<_> = text.split_whitespace().collect();
    let line = words.join(" ");
    match line.char_indices().nth(WIDTH) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::readable;

    #[test]
    fn a_page_is_read_as_a_person_sees_it() {
        let page = "<html><head><style>p { color: red }</style></head>\n<body><h1>Cabañas</h1>\
                    <p>Three\nare free</p><script>1 < 2</script></body></html>";
        assert_eq!(readable(page), "Cabañas Three are free");
        assert_eq!(readable("a < b"), "a");
        assert!(readable(&"ñ ".repeat(500)).ends_with('…'));
    }
}
