//! A mail server: SMTP as RFC 5321 has it, with TLS from the first byte or by STARTTLS, and a password.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use data_encoding::BASE64;
use rustls::ServerConfig;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// Who may send, as an address has it: `@` and `/` of the password are encoded there.
const USER: &str = "golive@cabanas.example";
const PASSWORD: &str = "canary/mail@password-3d7e";

/// Longest line with its end (RFC 5321, 4.5.3.1.6).
const MAX_LINE: usize = 1000;

/// An e-mail that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// The sender of the envelope.
    pub from: String,
    /// The receivers of the envelope.
    pub to: Vec<String>,
    /// Headers and text, as they were sent, without the dots that SMTP adds.
    pub text: String,
}

impl Letter {
    /// The value of a header, with its continuation lines.
    pub fn header(&self, name: &str) -> String {
        let head = self.text.split("\r\n\r\n").next().unwrap_or_default();
        let unfolded = head.replace("\r\n ", " ").replace("\r\n\t", " ");
        let mut lines = unfolded.split("\r\n").map(str::to_owned);
        let prefix = format!("{}:", name.to_ascii_lowercase());
        let found = lines.find(|line| line.to_ascii_lowercase().starts_with(&prefix));
        found
            .and_then(|line| {
                line.split_once(':')
                    .map(|(_, value)| value.trim().to_owned())
            })
            .unwrap_or_default()
    }
}

#[derive(Default)]
struct Post {
    letters: Vec<Letter>,
    refused: Vec<String>,
}

/// The server, until its world ends.
pub struct MailServer {
    secure: SocketAddr,
    plain: SocketAddr,
    post: Arc<Mutex<Post>>,
}

fn lock(post: &Mutex<Post>) -> MutexGuard<'_, Post> {
    post.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MailServer {
    pub(super) async fn start(
        tls: Arc<ServerConfig>,
        stop: CancellationToken,
    ) -> std::io::Result<Self> {
        let post = Arc::new(Mutex::new(Post::default()));
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut addresses = Vec::new();
        for implicit in [true, false] {
            let listener = TcpListener::bind(any).await?;
            addresses.push(listener.local_addr()?);
            let (acceptor, post, stop) =
                (TlsAcceptor::from(tls.clone()), post.clone(), stop.clone());
            tokio::spawn(async move {
                loop {
                    let accepted = tokio::select! {
                        () = stop.cancelled() => return,
                        accepted = listener.accept() => accepted,
                    };
                    let Ok((stream, _)) = accepted else { continue };
                    let (acceptor, post) = (acceptor.clone(), post.clone());
                    tokio::spawn(async move {
                        // A client that breaks off is no concern of the server.
                        let _ = connection(stream, implicit, acceptor, post).await;
                    });
                }
            });
        }
        Ok(Self {
            secure: addresses[0],
            plain: addresses[1],
            post,
        })
    }

    /// Where TLS comes first.
    pub fn secure(&self) -> SocketAddr {
        self.secure
    }

    /// Where STARTTLS is required.
    pub fn plain(&self) -> SocketAddr {
        self.plain
    }

    /// Its address with user and password, for the scheme `smtps` or `smtp`.
    pub fn url(&self, scheme: &str) -> String {
        format!(
            "{scheme}://golive%40cabanas.example:canary%2Fmail%40password-3d7e@mail.cabanas.example"
        )
    }

    /// The e-mails, oldest first.
    pub fn letters(&self) -> Vec<Letter> {
        lock(&self.post).letters.clone()
    }

    /// What was not as SMTP requires.
    pub fn refused(&self) -> Vec<String> {
        lock(&self.post).refused.clone()
    }
}

async fn connection(
    stream: TcpStream,
    implicit: bool,
    acceptor: TlsAcceptor,
    post: Arc<Mutex<Post>>,
) -> std::io::Result<()> {
    if implicit {
        let stream = acceptor.accept(stream).await?;
        return Session::new(stream, post, true).talk().await.map(drop);
    }
    let session = Session::new(stream, post.clone(), false);
    if let Some(stream) = session.talk().await? {
        let stream = acceptor.accept(stream).await?;
        let mut session = Session::new(stream, post, true);
        // After STARTTLS there is no second greeting, and all begins anew (RFC 3207, 4.2).
        session.greeted = true;
        session.talk().await?;
    }
    Ok(())
}

struct Session<S> {
    stream: BufReader<S>,
    post: Arc<Mutex<Post>>,
    secure: bool,
    greeted: bool,
    hello: bool,
    known: bool,
    from: Option<String>,
    to: Vec<String>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    fn new(stream: S, post: Arc<Mutex<Post>>, secure: bool) -> Self {
        Self {
            stream: BufReader::new(stream),
            post,
            secure,
            greeted: false,
            hello: false,
            known: false,
            from: None,
            to: Vec::new(),
        }
    }

    async fn say(&mut self, text: &str) -> std::io::Result<()> {
        let line = format!("{text}\r\n");
        self.stream.get_mut().write_all(line.as_bytes()).await?;
        self.stream.get_mut().flush().await
    }

    async fn refuse(&mut self, answer: &str, why: &str) -> std::io::Result<()> {
        lock(&self.post).refused.push(why.to_owned());
        self.say(answer).await
    }

    async fn line(&mut self) -> std::io::Result<Option<String>> {
        let mut bytes = Vec::new();
        let mut limited = (&mut self.stream).take(2 * MAX_LINE as u64);
        limited.read_until(b'\n', &mut bytes).await?;
        if bytes.is_empty() {
            return Ok(None);
        }
        let ends_well = bytes.ends_with(b"\r\n");
        if !ends_well || bytes.len() > MAX_LINE {
            self.refuse("500 no line of SMTP", "a line too long, or without CRLF")
                .await?;
            return Ok(None);
        }
        bytes.truncate(bytes.len() - 2);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Ok(Some(text))
    }

    /// To the end, or to STARTTLS, which returns the stream.
    async fn talk(mut self) -> std::io::Result<Option<S>> {
        if !self.greeted {
            self.say("220 mail.cabanas.example ESMTP").await?;
        }
        while let Some(line) = self.line().await? {
            let (verb, rest) = line.split_once(' ').unwrap_or((line.as_str(), ""));
            let rest = rest.to_owned();
            match verb.to_ascii_uppercase().as_str() {
                "EHLO" => {
                    self.hello = true;
                    let way = match self.secure {
                        true => "250 AUTH LOGIN PLAIN",
                        false => "250 STARTTLS",
                    };
                    self.say("250-mail.cabanas.example").await?;
                    self.say("250-8BITMIME").await?;
                    self.say(way).await?;
                }
                "STARTTLS" if !self.secure && self.hello => {
                    if !self.stream.buffer().is_empty() {
                        return self
                            .refuse("501 nothing may follow", "bytes after STARTTLS")
                            .await
                            .map(|()| None);
                    }
                    self.say("220 go on").await?;
                    return Ok(Some(self.stream.into_inner()));
                }
                "QUIT" => {
                    self.say("221 bye").await?;
                    return Ok(None);
                }
                _ if !self.secure => {
                    let why = format!("{verb} before TLS");
                    self.refuse("530 begin TLS first", &why).await?;
                }
                "AUTH" if self.hello => self.auth(&rest).await?,
                "MAIL" if self.known && self.from.is_none() => {
                    match path(&rest, "FROM:") {
                        Some(from) => {
                            self.from = Some(from);
                            self.say("250 ok").await?;
                        }
                        None => self.refuse("501 no sender", "no sender").await?,
                    };
                }
                "RCPT" if self.from.is_some() => match path(&rest, "TO:") {
                    Some(to) => {
                        self.to.push(to);
                        self.say("250 ok").await?;
                    }
                    None => self.refuse("501 no receiver", "no receiver").await?,
                },
                "DATA" if !self.to.is_empty() => self.data().await?,
                _ => {
                    let why = format!("{verb} out of order");
                    self.refuse("503 not now", &why).await?;
                }
            }
        }
        Ok(None)
    }

    async fn auth(&mut self, rest: &str) -> std::io::Result<()> {
        let wanted = format!("\0{USER}\0{PASSWORD}");
        let shown = rest.strip_prefix("PLAIN ").unwrap_or_default();
        let shown = BASE64.decode(shown.as_bytes()).unwrap_or_default();
        self.known = shown == wanted.as_bytes();
        match self.known {
            true => self.say("235 welcome").await,
            false => self.refuse("535 wrong", "a wrong password").await,
        }
    }

    async fn data(&mut self) -> std::io::Result<()> {
        self.say("354 go on").await?;
        let mut text = String::new();
        while let Some(line) = self.line().await? {
            if line == "." {
                break;
            }
            text.push_str(line.strip_prefix('.').unwrap_or(&line));
            text.push_str("\r\n");
        }
        let letter = Letter {
            from: self.from.take().unwrap_or_default(),
            to: std::mem::take(&mut self.to),
            text,
        };
        if let Err(why) = check(&letter) {
            return self.refuse("554 no e-mail", &why).await;
        }
        lock(&self.post).letters.push(letter);
        self.say("250 taken").await
    }
}

/// The address in `FROM:<a@b>`.
fn path(rest: &str, word: &str) -> Option<String> {
    let rest = rest.get(word.len()..).filter(|_| {
        let begins = rest.get(..word.len());
        begins.is_some_and(|begins| begins.eq_ignore_ascii_case(word))
    })?;
    let address = rest.trim().strip_prefix('<')?.split('>').next()?;
    address.contains('@').then(|| address.to_owned())
}

/// What RFC 5322 requires of an e-mail, 3.6: each of these once.
fn check(letter: &Letter) -> Result<(), String> {
    let head = letter.text.split("\r\n\r\n").next().unwrap_or_default();
    for name in [
        "From",
        "To",
        "Date",
        "Message-ID",
        "Subject",
        "MIME-Version",
    ] {
        let prefix = format!("{}:", name.to_ascii_lowercase());
        let lines = head.split("\r\n");
        let count = lines
            .filter(|line| line.to_ascii_lowercase().starts_with(&prefix))
            .count();
        if count != 1 {
            return Err(format!("{count} headers {name}"));
        }
    }
    let id = letter.header("Message-ID");
    if !(id.starts_with('<') && id.ends_with('>') && id.contains('@')) {
        return Err("a Message-ID without angles".to_owned());
    }
    match letter.text.is_ascii() {
        true => Ok(()),
        false => Err("bytes beyond ASCII without an encoding".to_owned()),
    }
}
