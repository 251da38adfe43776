//! The keys of service-account tokens: signing, verifying, and publishing them (ES256).

use api::Value;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, TokenData, Validation};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};

/// What service-account tokens are made with.
#[derive(Clone, Debug)]
pub struct ServiceAccountConfig {
    /// Who issues them, e.g. `https://kubernetes.default.svc.cluster.local`.
    pub issuer: String,
    /// Whom they are for if the request does not say. Tokens for others do not open this server.
    pub audiences: Vec<String>,
    /// The P-256 key that signs (PKCS#8, PEM).
    pub signing_key_pem: String,
    /// Public keys that verify, the signing key's among them (PEM).
    pub public_keys_pem: Vec<String>,
    /// Where the keys are published, e.g. `https://10.0.0.1:6443/openid/v1/jwks`.
    pub jwks_uri: String,
}

/// Why the keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The private key does not parse.
    #[error("the service-account signing key is no P-256 private key in PKCS#8 PEM: {0}")]
    Signing(#[source] jsonwebtoken::errors::Error),
    /// A public key does not parse.
    #[error("a service-account public key is no P-256 public key in PEM")]
    Public,
    /// There are none.
    #[error("no service-account public key is given")]
    NoKeys,
}

/// An object that a token is bound to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reference {
    pub name: String,
    #[serde(default)]
    pub uid: String,
}

/// The claim `kubernetes.io`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Private {
    #[serde(default)]
    pub namespace: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Reference>,
    pub serviceaccount: Reference,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warnafter: Option<i64>,
}

/// The claims of a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claims {
    pub aud: Vec<String>,
    pub exp: i64,
    pub iat: i64,
    pub iss: String,
    #[serde(default)]
    pub jti: String,
    #[serde(rename = "kubernetes.io")]
    pub private: Private,
    pub nbf: i64,
    pub sub: String,
}

struct PublicKey {
    id: String,
    x: String,
    y: String,
    key: DecodingKey,
}

/// The keys, ready for use.
pub(crate) struct TokenKeys {
    pub config: ServiceAccountConfig,
    signing: EncodingKey,
    public: Vec<PublicKey>,
}

/// The DER of a P-256 SubjectPublicKeyInfo before its point: 04, x, y of 32 bytes each.
const SPKI_LENGTH: usize = 91;

impl PublicKey {
    fn parse(pem: &str) -> Result<PublicKey, KeyError> {
        let block = pem::parse(pem).map_err(|_| KeyError::Public)?;
        let der = block.contents();
        if der.len() != SPKI_LENGTH || der[SPKI_LENGTH - 65] != 4 {
            return Err(KeyError::Public);
        }
        let (x, y) = der[SPKI_LENGTH - 64..].split_at(32);
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        let key = DecodingKey::from_ec_components(&x, &y).map_err(|_| KeyError::Public)?;
        // As upstream names keys (`keyIDFromPublicKey`).
        let id = URL_SAFE_NO_PAD.encode(Sha256::digest(der));
        Ok(PublicKey { id, x, y, key })
    }
}

impl TokenKeys {
    pub fn new(config: ServiceAccountConfig) -> Result<TokenKeys, KeyError> {
        let signing = EncodingKey::from_ec_pem(config.signing_key_pem.as_bytes()).map_err(KeyError::Signing)?;
        let public = config
            .public_keys_pem
            .iter()
            .map(|pem| PublicKey::parse(pem))
            .collect::<Result<Vec<_>, _>>()?;
        if public.is_empty() {
            return Err(KeyError::NoKeys);
        }
        Ok(TokenKeys {
            config,
            signing,
            public,
        })
    }

    /// A signed token.
    pub fn sign<C: Serialize>(&self, claims: &C) -> Result<String, jsonwebtoken::errors::Error> {
        let mut header = Header::new(Algorithm::ES256);
        header.typ = None;
        header.kid = self.public.first().map(|key| key.id.clone());
        jsonwebtoken::encode(&header, claims, &self.signing)
    }

    /// The claims of a token whose signature and issuer are ours. Times and audiences are still to
    /// be checked.
    pub fn verify(&self, token: &str) -> Result<Claims, String> {
        self.verify_from(token, &self.config.issuer)
    }

    /// The claims of a token whose signature is ours and whose issuer is this one.
    pub fn verify_from<C: serde::de::DeserializeOwned + Clone>(&self, token: &str, issuer: &str) -> Result<C, String> {
        let header = jsonwebtoken::decode_header(token).map_err(|error| error.to_string())?;
        let mut validation = Validation::new(Algorithm::ES256);
        validation.validate_aud = false;
        validation.validate_exp = false;
        validation.set_issuer(&[issuer]);
        // Which claims there have to be is for the caller to say.
        validation.set_required_spec_claims(&["iss"]);
        let mut last = "no key fits".to_owned();
        for public in &self.public {
            if header.kid.as_ref().is_some_and(|id| *id != public.id) {
                continue;
            }
            match jsonwebtoken::decode(token, &public.key, &validation) {
                Ok(TokenData { claims, .. }) => return Ok(claims),
                Err(error) => last = error.to_string(),
            }
        }
        Err(last)
    }

    /// `/openid/v1/jwks`.
    pub fn jwks(&self) -> Value {
        let key = |key: &PublicKey| {
            json!({
                "use": "sig", "kty": "EC", "kid": key.id, "crv": "P-256", "alg": "ES256",
                "x": key.x, "y": key.y,
            })
        };
        json!({"keys": self.public.iter().map(key).collect::<Vec<_>>()})
    }

    /// `/.well-known/openid-configuration`.
    pub fn discovery(&self) -> Value {
        json!({
            "issuer": self.config.issuer,
            "jwks_uri": self.config.jwks_uri,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        })
    }
}
