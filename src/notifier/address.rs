//! Where a receiver is, from the values of its Secret. Pure. No error contains a value: an address is as
//! good as a password.

use base64::{Engine, engine::general_purpose::STANDARD};
use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::net::{receiver::Origin, smtp::Login};

/// Longest address, in bytes.
const MAX_ADDRESS: usize = 4096;

/// Longest key, in bytes.
const MAX_KEY: usize = 1024;

/// Length of an integration key of PagerDuty (support.pagerduty.com/main/docs/services-and-integrations:
/// 32 letters and digits).
const PAGER_KEY: usize = 32;

/// What is wrong with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Wrong {
    #[error("its address is no URL")]
    NoUrl,
    #[error("its address must begin with https://")]
    NotHttps,
    #[error("its address must begin with smtps:// or smtp://")]
    NotMail,
    #[error("its address has a fragment, which is never sent")]
    Fragment,
    #[error("its key is not one that can be sent")]
    Key,
}

/// A receiver of HTTP.
#[derive(Debug)]
pub(super) struct Web {
    pub(super) origin: Origin,
    /// Path and query.
    pub(super) path: SecretString,
    pub(super) authorization: Option<SecretString>,
}

/// A mail server.
#[derive(Debug)]
pub(super) struct MailServer {
    pub(super) origin: Origin,
    pub(super) login: Option<Login>,
}

/// Whether the administrator allows this origin.
fn is_allowed(url: &Url, origins: &[Url]) -> bool {
    origins.iter().any(|allowed| {
        (allowed.scheme(), allowed.host_str(), port(allowed))
            == (url.scheme(), url.host_str(), port(url))
    })
}

fn port(url: &Url) -> Option<u16> {
    url.port_or_known_default().or(match url.scheme() {
        "smtps" => Some(465),
        "smtp" => Some(587),
        _ => None,
    })
}

fn parsed(text: &str) -> Result<Url, Wrong> {
    let short = Some(text).filter(|text| text.len() <= MAX_ADDRESS);
    let url: Url = short
        .and_then(|text| text.parse().ok())
        .ok_or(Wrong::NoUrl)?;
    if url.host_str().is_none_or(str::is_empty) {
        return Err(Wrong::NoUrl);
    }
    match url.fragment() {
        Some(_) => Err(Wrong::Fragment),
        None => Ok(url),
    }
}

fn origin(url: &Url, tls: bool, allowed: bool) -> Result<Origin, Wrong> {
    let host = url.host_str().unwrap_or_default();
    Ok(Origin {
        tls,
        host: host.trim_matches(['[', ']']).to_owned(),
        port: port(url).ok_or(Wrong::NoUrl)?,
        allowed,
    })
}

/// User and password in an address, decoded.
fn login(url: &Url) -> Result<Option<Login>, Wrong> {
    if url.username().is_empty() && url.password().is_none() {
        return Ok(None);
    }
    let decoded = |text: &str| {
        let text = percent_decode_str(text).decode_utf8();
        text.map(|text| text.into_owned()).map_err(|_| Wrong::Key)
    };
    Ok(Some(Login {
        user: decoded(url.username())?,
        password: decoded(url.password().unwrap_or_default())?.into(),
    }))
}

/// The receiver at this address; `added` goes to the end of its path, and `key` is sent with what is sent
/// there.
pub(super) fn web(
    address: &SecretString,
    added: &str,
    key: Option<&SecretString>,
    origins: &[Url],
) -> Result<Web, Wrong> {
    let url = parsed(address.expose_secret())?;
    let allowed = is_allowed(&url, origins);
    let tls = match url.scheme() {
        "https" => true,
        "http" if allowed => false,
        _ => return Err(Wrong::NotHttps),
    };
    let path = match added {
        "" => url.path().to_owned(),
        added => format!("{}{added}", url.path().trim_end_matches('/')),
    };
    let query = url.query().map(|query| format!("?{query}"));
    let authorization = match (key, login(&url)?) {
        (Some(key), _) => Some(format!("Bearer {}", self::key(key)?)),
        (None, Some(Login { user, password })) => {
            let both = format!("{user}:{}", password.expose_secret());
            Some(format!("Basic {}", STANDARD.encode(both)))
        }
        (None, None) => None,
    };
    Ok(Web {
        origin: origin(&url, tls, allowed)?,
        path: format!("{path}{}", query.unwrap_or_default()).into(),
        authorization: authorization.map(SecretString::from),
    })
}

/// PagerDuty, as the operator's flag has it.
pub(super) fn pager(base: &Url, path: &str) -> Result<Web, Wrong> {
    Ok(Web {
        // The flag names it: it may be anywhere.
        origin: origin(base, base.scheme() == "https", true)?,
        path: path.to_owned().into(),
        authorization: None,
    })
}

/// A key that can be a header.
fn key(key: &SecretString) -> Result<&str, Wrong> {
    let text = key.expose_secret();
    let fine = text.len() <= MAX_KEY && text.bytes().all(|byte| byte.is_ascii_graphic());
    fine.then_some(text).ok_or(Wrong::Key)
}

/// An integration key of PagerDuty: what is none is not sent there.
pub(super) fn pager_key(key: &SecretString) -> Result<&str, Wrong> {
    let text = key.expose_secret();
    let fine = text.len() == PAGER_KEY && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    fine.then_some(text).ok_or(Wrong::Key)
}

/// The mail server at this address.
pub(super) fn mail_server(address: &SecretString, origins: &[Url]) -> Result<MailServer, Wrong> {
    let url = parsed(address.expose_secret())?;
    let tls = match url.scheme() {
        "smtps" => true,
        "smtp" => false,
        _ => return Err(Wrong::NotMail),
    };
    Ok(MailServer {
        origin: origin(&url, tls, is_allowed(&url, origins))?,
        login: login(&url)?,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn secret(text: &str) -> SecretString {
        SecretString::from(text)
    }

    fn urls(texts: &[&str]) -> Vec<Url> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn an_address_says_where_a_message_goes_and_with_what() {
        let address = secret("https://user:p%40ss@alerts.example:9443/base/?tenant=1");
        let found = web(&address, "/api/v2/alerts", None, &[]).unwrap();
        let expected = Origin {
            tls: true,
            host: "alerts.example".to_owned(),
            port: 9443,
            allowed: false,
        };
        assert_eq!(found.origin, expected);
        assert_eq!(found.path.expose_secret(), "/base/api/v2/alerts?tenant=1");
        let basic = found.authorization.unwrap();
        assert_eq!(basic.expose_secret(), "Basic dXNlcjpwQHNz");
        let token = secret("t0ken");
        let found = web(&secret("https://x.example"), "", Some(&token), &[]).unwrap();
        assert_eq!(found.path.expose_secret(), "/");
        assert_eq!(found.authorization.unwrap().expose_secret(), "Bearer t0ken");
    }

    #[test]
    fn plain_http_needs_an_origin_that_the_administrator_allows() {
        let origins = urls(&["http://alertmanager.monitoring.svc:9093"]);
        let here = secret("http://alertmanager.monitoring.svc:9093/am");
        let found = web(&here, "", None, &origins).unwrap();
        assert!(found.origin.allowed && !found.origin.tls);
        for other in [
            "http://alertmanager.monitoring.svc:9094/",
            "http://alertmanager.monitoring.svc.evil.example:9093/",
            "http://x@evil.example:9093/?alertmanager.monitoring.svc:9093",
            "ftp://alertmanager.monitoring.svc:9093/",
            "postgres://u:p@db/x",
        ] {
            let refused = web(&secret(other), "", None, &origins);
            assert_eq!(refused.err(), Some(Wrong::NotHttps), "{other}");
        }
        let secure = web(
            &secret("https://alertmanager.monitoring.svc:9093/"),
            "",
            None,
            &origins,
        );
        assert!(
            !secure.unwrap().origin.allowed,
            "another scheme is another origin"
        );
    }

    #[test]
    fn a_mail_server_has_a_port_by_its_scheme_and_a_decoded_login() {
        let found = mail_server(&secret("smtps://a%40b.example:p%2Fw@mail.example"), &[]).unwrap();
        assert_eq!((found.origin.port, found.origin.tls), (465, true));
        let login = found.login.unwrap();
        assert_eq!(
            (login.user.as_str(), login.password.expose_secret()),
            ("a@b.example", "p/w")
        );
        let found = mail_server(&secret("smtp://mail.example"), &[]).unwrap();
        assert_eq!((found.origin.port, found.origin.tls), (587, false));
        assert!(found.login.is_none());
        let refused = mail_server(&secret("https://mail.example"), &[]);
        assert_eq!(refused.err(), Some(Wrong::NotMail));
    }

    #[test]
    fn what_is_no_address_or_no_key_is_refused_without_being_shown() {
        for (text, wrong) in [
            ("", Wrong::NoUrl),
            ("hooks.example/x", Wrong::NoUrl),
            ("https://", Wrong::NoUrl),
            ("https://x.example/#key", Wrong::Fragment),
        ] {
            let refused = web(&secret(text), "", None, &[]);
            assert_eq!(refused.err(), Some(wrong), "{text}");
        }
        let long = format!("https://x.example/{}", "k".repeat(MAX_ADDRESS));
        assert_eq!(web(&secret(&long), "", None, &[]).err(), Some(Wrong::NoUrl));
        let lines = secret("two\r\nlines");
        let refused = web(&secret("https://x.example"), "", Some(&lines), &[]);
        assert_eq!(refused.err(), Some(Wrong::Key));
        assert_eq!(
            pager_key(&secret("postgres://u:p@db")).err(),
            Some(Wrong::Key)
        );
        let fine = "k".repeat(PAGER_KEY);
        assert_eq!(pager_key(&secret(&fine)), Ok(fine.as_str()));
    }
}
