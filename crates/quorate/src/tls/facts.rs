//! What a certificate says of its names, its key and its life, read in one place; whether to believe it is [`super::Trust`]'s.

use quorate_core::credential::CredentialId;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

const DAY_S: i64 = 24 * 60 * 60;

/// A certificate's own words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CertificateFacts {
    /// The URIs among its names.
    pub uris: Vec<String>,
    /// Its public key, SPKI in DER.
    pub spki: Vec<u8>,
    /// When it begins to be valid, in seconds since 1970.
    pub begins_s: i64,
    /// When it ends to be.
    pub ends_s: i64,
}

impl CertificateFacts {
    /// Of a certificate in DER.
    ///
    /// # Errors
    /// Why it can't be read.
    pub fn of(der: &[u8]) -> Result<Self, String> {
        let (_, parsed) = X509Certificate::from_der(der).map_err(|e| e.to_string())?;
        let names = parsed.subject_alternative_name().ok().flatten();
        let uri = |name: &GeneralName<'_>| match name {
            GeneralName::URI(uri) => Some((*uri).to_owned()),
            _ => None,
        };
        Ok(Self {
            uris: names.iter().flat_map(|names| &names.value.general_names).filter_map(uri).collect(),
            spki: parsed.public_key().raw.to_vec(),
            begins_s: parsed.validity().not_before.timestamp(),
            ends_s: parsed.validity().not_after.timestamp(),
        })
    }

    /// Of the first certificate of a PEM file.
    ///
    /// # Errors
    /// There is none, or it can't be read.
    pub fn of_pem(pem: &[u8]) -> Result<Self, String> {
        Self::of(&CertificateDer::from_pem_slice(pem).map_err(|e| e.to_string())?)
    }

    /// What it is as a credential of its holder: SHA-256 of its SPKI (RFC 7469 §2.4).
    pub fn credential(&self) -> CredentialId {
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &self.spki);
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(hash.as_ref());
        CredentialId::Certificate(sha256)
    }

    /// For how many days it was made.
    pub fn days(&self) -> i64 {
        self.ends_s.saturating_sub(self.begins_s) / DAY_S
    }

    /// When it ends, in milliseconds since 1970.
    pub fn ends_ms(&self) -> u64 {
        ends_ms(self.ends_s)
    }
}

/// Seconds since 1970 as milliseconds.
pub(super) fn ends_ms(ends_s: i64) -> u64 {
    u64::try_from(ends_s).unwrap_or(0).saturating_mul(1000)
}

/// For how many whole days what ends then is still good; less than 0 once it has ended.
pub fn days_left(ends_ms: u64, now_ms: u64) -> i64 {
    let ms = |ms| i64::try_from(ms).unwrap_or(i64::MAX);
    ms(ends_ms).saturating_sub(ms(now_ms)).div_euclid(DAY_S * 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_tells_its_life_and_days_are_counted_to_its_end() {
        const DAY_MS: u64 = DAY_S as u64 * 1000;
        let mut params = rcgen::CertificateParams::new(vec!["n1.test".into()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2030, 1, 1);
        params.not_after = rcgen::date_time_ymd(2030, 1, 31);
        params.subject_alt_names.push(rcgen::SanType::URI("quorate://c/user/x".try_into().unwrap()));
        let key = rcgen::KeyPair::generate().unwrap();
        let made = params.self_signed(&key).unwrap();
        let facts = CertificateFacts::of_pem(made.pem().as_bytes()).unwrap();
        assert_eq!(Ok(&facts), CertificateFacts::of(made.der()).as_ref());
        assert_eq!((facts.uris.join(" "), facts.days()), ("quorate://c/user/x".into(), 30));
        assert_eq!(facts.spki, rcgen::PublicKeyData::subject_public_key_info(&key));
        let ends_ms = facts.ends_ms();
        assert_eq!(ends_ms, 1_896_048_000_000);
        for (now_ms, left) in
            [(ends_ms - 10 * DAY_MS, 10), (ends_ms - 10 * DAY_MS + 1000, 9), (ends_ms, 0), (ends_ms + 1000, -1)]
        {
            assert_eq!(days_left(ends_ms, now_ms), left, "{now_ms}");
        }
        assert!(CertificateFacts::of_pem(b"").is_err() && CertificateFacts::of(b"x").is_err());
    }
}
