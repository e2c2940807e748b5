//! E-mail by SMTP (RFC 5321), with TLS from the first byte (RFC 8314) or by STARTTLS (RFC 3207).
//!
//! The crate `lettre` speaks SMTP; the connection and TLS are ours, so that the rule about addresses, the
//! authorities of the operator and the server's clock count here too. Without TLS nothing is sent, unless
//! the operator's administrator has allowed the origin; a password is never sent without it. Nothing of a
//! reply is kept but its code.

use std::{
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use lettre::{
    address::Envelope,
    transport::smtp::{
        authentication::{Credentials, Mechanism},
        client::{AsyncSmtpConnection, AsyncTokioStream},
        extension::ClientId,
    },
};
use secrecy::{ExposeSecret, SecretString};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
};

use super::{
    probe::{Probe, ProbeError},
    receiver::{CONNECT, Origin},
};

/// Longest reply that is read before TLS, in bytes. A server names its extensions in it.
const MAX_REPLY: usize = 16 << 10;

/// The name that this client gives of itself: a pod has none that anybody could look up.
const NAME: &str = "golive.invalid";

/// User and password of a mail server.
#[derive(Clone, Debug)]
pub struct Login {
    /// The user.
    pub user: String,
    /// The password.
    pub password: SecretString,
}

/// Why an e-mail was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MailError {
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ProbeError),
    /// The server offers no TLS.
    #[error("the mail server offers no TLS")]
    NoTls,
    /// It wants no password, or none in a way that this client knows.
    #[error("the mail server does not take this user and password")]
    Login(Option<u16>),
    /// It answered with this code of SMTP.
    #[error("the mail server answered {0}")]
    Refused(u16),
    /// It did not answer as a mail server does.
    #[error("the mail server did not answer as SMTP requires")]
    Broken,
    /// The time limit was reached.
    #[error("the mail server did not answer within {} s", .0.as_secs())]
    TimedOut(Duration),
}

impl MailError {
    /// Whether the server would refuse the same again: a code of 5yz, or a wrong password (RFC 5321,
    /// 4.2.1).
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Refused(code) | Self::Login(Some(code)) => (500..600).contains(code),
            Self::Login(None) | Self::NoTls => true,
            Self::Connect(error) => matches!(error, ProbeError::NotPublic(_)),
            Self::Broken | Self::TimedOut(_) => false,
        }
    }
}

impl Probe {
    /// Hands an e-mail to a server, within `timeout`.
    ///
    /// # Errors
    /// When the server has not taken it, with the cause.
    pub async fn mail(
        &self,
        origin: &Origin,
        login: Option<&Login>,
        (envelope, email): (&Envelope, &[u8]),
        timeout: Duration,
    ) -> Result<(), MailError> {
        let sent = async {
            let mut connection = self.greet(origin).await?;
            if let Some(login) = login {
                if !connection.secure {
                    return Err(MailError::NoTls);
                }
                let password = login.password.expose_secret().to_owned();
                let credentials = Credentials::new(login.user.clone(), password);
                let known = [Mechanism::Plain, Mechanism::Login];
                let login = connection.smtp.auth(&known, &credentials).await;
                login.map_err(|error| MailError::Login(code(&error)))?;
            }
            let sent = connection.smtp.send(envelope, email).await;
            sent.map_err(|error| code(&error).map_or(MailError::Broken, MailError::Refused))?;
            // It has the e-mail: how the connection ends does not matter.
            drop(connection.smtp.quit().await);
            Ok(())
        };
        tokio::time::timeout(timeout, sent)
            .await
            .unwrap_or(Err(MailError::TimedOut(timeout)))
    }

    /// Connects, and lets the server name its extensions.
    async fn greet(&self, origin: &Origin) -> Result<Connection, MailError> {
        let host = &origin.host;
        let connected = tokio::time::timeout(CONNECT, self.to_receiver(origin)).await;
        let mut stream = connected.unwrap_or_else(|_| Err(ProbeError::Connect(host.clone())))?;
        let peer = stream.peer_addr().map_err(|_| MailError::Broken)?;
        let mut greeting = Vec::new();
        let mut secure = true;
        let stream: Box<dyn Both> = if origin.tls {
            Box::new(self.handshake(self.tls(), host, stream).await?)
        } else {
            greeting = reply(&mut stream, 220).await?;
            let offered = ask(&mut stream, &format!("EHLO {NAME}"), 250).await?;
            if offers_tls(&offered) {
                // Byte for byte: what somebody in between adds in the clear meets TLS, which fails.
                ask(&mut stream, "STARTTLS", 220).await?;
                Box::new(self.handshake(self.tls(), host, stream).await?)
            } else if origin.allowed {
                secure = false;
                Box::new(stream)
            } else {
                return Err(MailError::NoTls);
            }
        };
        // The client waits for the greeting, which a server sends once, before TLS.
        let stream = Replayed {
            first: greeting,
            stream,
            peer,
        };
        let name = ClientId::Domain(NAME.to_owned());
        let smtp = AsyncSmtpConnection::connect_with_transport(Box::new(stream), &name).await;
        let smtp =
            smtp.map_err(|error| code(&error).map_or(MailError::Broken, MailError::Refused))?;
        Ok(Connection { smtp, secure })
    }
}

struct Connection {
    smtp: AsyncSmtpConnection,
    /// Nobody in between reads it.
    secure: bool,
}

fn code(error: &lettre::transport::smtp::Error) -> Option<u16> {
    error.status().map(u16::from)
}

/// Whether one of the lines of a reply to EHLO names STARTTLS.
fn offers_tls(reply: &[u8]) -> bool {
    let lines = reply.split(|byte| *byte == b'\n');
    lines
        .filter_map(|line| line.trim_ascii_end().get(4..))
        .any(|word| word.eq_ignore_ascii_case(b"STARTTLS"))
}

async fn ask(stream: &mut TcpStream, command: &str, wanted: u16) -> Result<Vec<u8>, MailError> {
    let line = format!("{command}\r\n");
    let sent = stream.write_all(line.as_bytes()).await;
    sent.map_err(|_| MailError::Broken)?;
    reply(stream, wanted).await
}

/// A reply of SMTP, which may have several lines; all but the last have a hyphen after the code. Nothing
/// that comes after it is read.
async fn reply(stream: &mut (impl AsyncRead + Unpin), wanted: u16) -> Result<Vec<u8>, MailError> {
    let mut all = Vec::new();
    let mut line = 0;
    loop {
        let byte = stream.read_u8().await.map_err(|_| MailError::Broken)?;
        all.push(byte);
        if all.len() > MAX_REPLY {
            return Err(MailError::Broken);
        }
        if byte != b'\n' {
            continue;
        }
        let text = all.get(line..).unwrap_or_default();
        let code = text
            .get(..3)
            .and_then(|code| std::str::from_utf8(code).ok());
        let code: u16 = code
            .and_then(|code| code.parse().ok())
            .ok_or(MailError::Broken)?;
        if text.get(3) != Some(&b'-') {
            return match code == wanted {
                true => Ok(all),
                false => Err(MailError::Refused(code)),
            };
        }
        line = all.len();
    }
}

trait Both: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> Both for S {}

/// A stream that begins with bytes which were read from it already.
struct Replayed {
    first: Vec<u8>,
    stream: Box<dyn Both>,
    peer: SocketAddr,
}

impl fmt::Debug for Replayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Replayed")
    }
}

impl AsyncTokioStream for Replayed {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.peer)
    }
}

impl AsyncRead for Replayed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        let some = self.first.len().min(buffer.remaining());
        buffer.put_slice(&self.first[..some]);
        self.first.drain(..some);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Replayed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reply_ends_with_its_last_line_and_what_follows_is_not_read() {
        let mut bytes: &[u8] = b"250-mail.example\r\n250-SIZE 1000\r\n250 STARTTLS\r\n220 more\r\n";
        let all = reply(&mut bytes, 250).await.unwrap();
        assert!(offers_tls(&all));
        assert_eq!(bytes, b"220 more\r\n");
        assert!(!offers_tls(b"250-STARTTLSX\r\n250 AUTH PLAIN\r\n"));
        for (bytes, error) in [
            (&b"421 busy\r\n"[..], MailError::Refused(421)),
            (b"hello\r\n", MailError::Broken),
            (b"25", MailError::Broken),
        ] {
            let mut bytes = bytes;
            assert_eq!(reply(&mut bytes, 250).await, Err(error));
        }
        let mut endless: &[u8] = &[b'x'; MAX_REPLY + 1];
        assert_eq!(reply(&mut endless, 250).await, Err(MailError::Broken));
    }

    #[test]
    fn what_a_server_would_refuse_again_is_told_from_what_may_pass() {
        for (error, permanent) in [
            (MailError::Refused(550), true),
            (MailError::Refused(451), false),
            (MailError::Login(Some(535)), true),
            (MailError::Login(Some(454)), false),
            (MailError::NoTls, true),
            (MailError::Broken, false),
        ] {
            assert_eq!(error.is_permanent(), permanent, "{error}");
        }
    }
}
