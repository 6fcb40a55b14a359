//! What a client needs to know to reach a cluster.

use std::fmt;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::error::ClientError;

/// Port of the API when an address names none.
const PORT_DEFAULT: u16 = 7600;
/// More addresses than any cluster has voters and learners near a client; bounds a mistyped list.
const ADDRS_MAX: usize = 64;

/// How to reach a cluster, and as whom.
#[derive(Clone)]
pub struct ClientConfig {
    /// Nodes, as `host:port`; the first that works is used. Port 7600 when none is named.
    pub addrs: Vec<String>,
    /// The cluster's self-signed root certificate (PEM).
    pub ca_pem: Vec<u8>,
    /// The client's certificate chain (PEM); empty = none, which is enough for nothing but a refusal.
    pub cert_pem: Vec<u8>,
    /// Its private key (PEM); empty = none.
    pub key_pem: Zeroizing<Vec<u8>>,
    /// Longest time for one call, all attempts together.
    pub deadline: Duration,
    /// The namespace in which things are made and called by their names; none = the first.
    pub namespace: Option<String>,
}

impl ClientConfig {
    /// A request's default deadline (design §6).
    pub const DEADLINE_DEFAULT: Duration = Duration::from_secs(10);

    /// A configuration with the default deadline.
    pub fn new(addrs: Vec<String>, ca_pem: Vec<u8>, cert_pem: Vec<u8>, key_pem: Vec<u8>) -> Self {
        let (key_pem, deadline) = (Zeroizing::new(key_pem), Self::DEADLINE_DEFAULT);
        Self { addrs, ca_pem, cert_pem, key_pem, deadline, namespace: None }
    }
}

impl fmt::Debug for ClientConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("ClientConfig");
        shown.field("addrs", &self.addrs).field("deadline", &self.deadline).field("namespace", &self.namespace).finish()
    }
}

/// One node's address, parsed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Address {
    pub host: String,
    pub port: u16,
}

impl Address {
    pub(crate) fn parse_all(addrs: &[String]) -> Result<Vec<Self>, ClientError> {
        if addrs.is_empty() {
            return Err(ClientError::config(
                "no node address is given; set QUORATE_ADDR or --addr to host:port of one or more nodes",
            ));
        }
        if addrs.len() > ADDRS_MAX {
            return Err(ClientError::config(format!("{} addresses are given; {ADDRS_MAX} are allowed", addrs.len())));
        }
        addrs.iter().map(|a| Self::parse(a)).collect()
    }

    fn parse(text: &str) -> Result<Self, ClientError> {
        let bad = || {
            ClientError::config(format!("not a node address: {text:?}; expected host:port, as in n1.example.com:7600"))
        };
        let bare = text.trim();
        let bare = bare.strip_prefix("https://").unwrap_or(bare).trim_end_matches('/');
        let (host, port) = match bare.strip_prefix('[') {
            Some(v6) => {
                let (host, rest) = v6.split_once(']').ok_or_else(bad)?;
                host.parse::<std::net::Ipv6Addr>().map_err(|_| bad())?;
                (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':').ok_or_else(bad)?) })
            }
            None => match bare.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (bare, None),
            },
        };
        let port = port.map_or(Ok(PORT_DEFAULT), |p| p.parse().map_err(|_| bad()))?;
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
        if host.is_empty() || port == 0 || !host.chars().all(good) || (host.contains(':') && !bare.starts_with('[')) {
            return Err(bad());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, expected) in [
            ("127.0.0.1:7610", "127.0.0.1:7610"),
            ("n1.example.com", "n1.example.com:7600"),
            (" https://n1:1/ ", "n1:1"),
            ("[::1]:7600", "[::1]:7600"),
            ("[::1]", "[::1]:7600"),
        ] {
            assert_eq!(Address::parse(text).expect(text).to_string(), expected);
        }
        for text in
            ["", ":7600", "n1:", "n1:0", "n1:70000", "::1:7600", "[::1", "[n1]:1", "n 1:1", "http://n1:1", "n1/x:1"]
        {
            let error = Address::parse(text).expect_err(text);
            assert!(error.is(crate::reason::INVALID_CONFIG) && error.message.contains("host:port"), "{text}");
        }
        assert!(Address::parse_all(&[]).expect_err("none").message.contains("QUORATE_ADDR"));
    }

    #[test]
    fn a_private_key_is_not_printed() {
        let config = ClientConfig::new(vec!["n1".into()], vec![], vec![], b"SECRET".to_vec());
        assert!(!format!("{config:?}").contains("SECRET") && !format!("{config:?}").contains("83, 69"));
    }
}
