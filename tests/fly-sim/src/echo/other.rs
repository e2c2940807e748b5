//! Servers that do not speak HTTP/1: bytes over TCP, datagrams over UDP, calls of gRPC.

use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, UdpSocket};

/// The health service of gRPC. Source: github.com/grpc/grpc, doc/health-checking.md.
const HEALTH: &str = "/grpc.health.v1.Health/Check";

/// Code of a method that the server does not have. Source: github.com/grpc/grpc, doc/statuscodes.md.
const UNIMPLEMENTED: &str = "12";

/// Sends back every byte of every connection.
pub async fn tcp(listener: TcpListener, greeting: String) -> std::io::Result<()> {
    loop {
        let (mut stream, _) = listener.accept().await?;
        let greeting = greeting.clone();
        tokio::spawn(async move {
            stream.write_all(greeting.as_bytes()).await?;
            let (mut read, mut write) = stream.split();
            tokio::io::copy(&mut read, &mut write).await
        });
    }
}

/// Sends back every datagram.
pub async fn udp(socket: UdpSocket) -> std::io::Result<()> {
    let mut datagram = [0; 2048];
    loop {
        let (length, from) = socket.recv_from(&mut datagram).await?;
        socket.send_to(&datagram[..length], from).await?;
    }
}

/// Answers calls of gRPC over HTTP/2 without TLS: it has the health service and nothing else.
pub async fn grpc(listener: TcpListener) -> std::io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service_fn(call))
                .await
        });
    }
}

async fn call(
    request: Request<Incoming>,
) -> Result<Response<BoxBody<Bytes, Infallible>>, Infallible> {
    let kind = request.headers().get(header::CONTENT_TYPE);
    let is_call = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    let is_health = request.uri().path() == HEALTH;
    // A server may answer only once it has read the call.
    let _ = request.into_body().collect().await;
    let mut response = Response::new(Empty::new().boxed());
    if !is_call {
        *response.status_mut() = http::StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return Ok(response);
    }
    if is_health {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        // Not compressed, two bytes: field 1 (status) is 1 (SERVING).
        let message = Bytes::from_static(&[0, 0, 0, 0, 2, 8, 1]);
        let frames = [Frame::data(message), Frame::trailers(trailers)].map(Ok);
        *response.body_mut() = BodyExt::boxed(StreamBody::new(futures::stream::iter(frames)));
    } else {
        let code = HeaderValue::from_static(UNIMPLEMENTED);
        response.headers_mut().insert("grpc-status", code);
    }
    let kind = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}
