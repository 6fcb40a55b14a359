//! What a node tells of itself to whoever watches it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::Cluster;
use crate::net::API_PORT;

const TIME_MAX: Duration = Duration::from_secs(20);
const REQUEST: &[u8] = b"GET /metrics HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n";

impl Cluster<'_> {
    /// The metrics of a node that runs, with the head of its answer.
    ///
    /// # Errors
    /// It does not tell them.
    pub async fn metrics(&self, node: u32) -> anyhow::Result<Vec<u8>> {
        let told = timeout(TIME_MAX, self.scrape(node)).await.context("no answer in time").and_then(|told| told);
        told.with_context(|| format!("the metrics of n{node}"))
    }

    async fn scrape(&self, node: u32) -> anyhow::Result<Vec<u8>> {
        let address = self.net.reached(node);
        let tcp = TcpStream::connect((address, API_PORT)).await?;
        let tls = TlsConnector::from(Arc::new(self.as_user()?));
        let mut tls = tls.connect(ServerName::from(address), tcp).await?;
        tls.write_all(REQUEST).await?;
        let mut told = Vec::new();
        // Whoever closes without a word of farewell has told all the same.
        let _ = tls.read_to_end(&mut told).await;
        let head = told.get(..told.len().min(64)).map(String::from_utf8_lossy);
        ensure!(told.starts_with(b"HTTP/1.1 200"), "it said {head:?}");
        Ok(told)
    }

    fn as_user(&self) -> anyhow::Result<ClientConfig> {
        let file = |name: &str| self.dir.join("pki").join(name);
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_file_iter(file("ca.pem"))? {
            roots.add(root?)?;
        }
        let chain = CertificateDer::pem_file_iter(file("user.pem"))?.collect::<Result<Vec<_>, _>>()?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let key = PrivateKeyDer::from_pem_file(file("user.key"))?;
        Ok(config.with_root_certificates(roots).with_client_auth_cert(chain, key)?)
    }
}
