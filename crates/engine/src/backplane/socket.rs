//! Sockets to a bus: opened, encrypted if the URL says so, and each failure as words.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

use super::channel::LinkError;
use crate::config::bus::Address;

/// What a bus's library reads and writes.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// Connects; to a name with several addresses in turn.
pub(crate) async fn open(address: &Address) -> Result<Box<dyn Socket>, LinkError> {
    match address {
        Address::Tcp { host, port, tls } => {
            let stream = match tokio::net::lookup_host((host.as_str(), *port)).await {
                Ok(addresses) => {
                    connect_first(addresses).await.map_err(|error| unreachable(address, &error))?
                }
                Err(_) => return Err(not_found(host)),
            };
            // Without it a small publish may wait for the answer to the one before.
            let _ = stream.set_nodelay(true);
            if *tls { encrypt(host, stream).await } else { Ok(Box::new(stream)) }
        }
        #[cfg(unix)]
        Address::Unix(path) => match tokio::net::UnixStream::connect(path).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) => Err(unreachable(address, &error)),
        },
        #[cfg(not(unix))]
        Address::Unix(_) => Err(LinkError::new("this system has no Unix sockets")),
    }
}

async fn connect_first(
    addresses: impl Iterator<Item = std::net::SocketAddr>,
) -> io::Result<TcpStream> {
    let mut last = io::ErrorKind::NotFound.into();
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn encrypt(host: &str, stream: TcpStream) -> Result<Box<dyn Socket>, LinkError> {
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| LinkError::new(format!("{host} is no name that a certificate can be for")))?;
    let connector = TlsConnector::from(Arc::new(tls_config()?));
    match connector.connect(name, stream).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) => Err(tls_failure(host, &error)),
    }
}

/// TLS that trusts the system's authorities, or those of the file that `SSL_CERT_FILE` names.
pub(crate) fn tls_config() -> Result<ClientConfig, LinkError> {
    let mut roots = RootCertStore::empty();
    let (trusted, _) =
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if trusted == 0 {
        return Err(LinkError::new(
            "TLS needs certificates of authorities: the system has none that can be read (Debian: ca-certificates), \
             and SSL_CERT_FILE names none",
        ));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    match versions {
        Ok(builder) => Ok(builder.with_root_certificates(roots).with_no_client_auth()),
        Err(error) => Err(LinkError::new(format!("TLS is not possible ({error})"))),
    }
}

/// A handshake failed.
pub(crate) fn tls_failure(host: &str, error: &io::Error) -> LinkError {
    let reason = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    LinkError::new(match reason {
        Some(rustls::Error::InvalidCertificate(reason)) => format!(
            "the certificate of {host} is not to be trusted ({reason}); SSL_CERT_FILE can name the file of its authority"
        ),
        Some(rustls::Error::InvalidMessage(_)) => format!("{host} does not speak TLS on that port"),
        Some(reason) => format!("TLS with {host} failed ({reason})"),
        None => format!("TLS with {host} failed ({})", words(error)),
    })
}

/// A connection could not be made.
pub(crate) fn unreachable(address: &Address, error: &io::Error) -> LinkError {
    LinkError::new(match error.kind() {
        io::ErrorKind::ConnectionRefused => format!("nothing listens on {address}"),
        io::ErrorKind::NotFound => format!("there is no {address}"),
        io::ErrorKind::PermissionDenied => format!("{address} may not be opened by this user"),
        _ => format!("{address} cannot be reached ({})", words(error)),
    })
}

/// A name has no address.
pub(crate) fn not_found(host: &str) -> LinkError {
    LinkError::new(format!("there is no host named {host}"))
}

/// What an established connection ended with.
pub(crate) fn ended(error: &io::Error) -> LinkError {
    LinkError::new(match error.kind() {
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::NotConnected
        | io::ErrorKind::BrokenPipe => CLOSED.to_owned(),
        _ => format!("the connection broke ({})", words(error)),
    })
}

/// The other side ended the connection.
pub(crate) const CLOSED: &str = "the server closed the connection";

/// An error of the system without its number.
fn words(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}
