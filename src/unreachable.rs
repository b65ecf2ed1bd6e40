//! Why a host can't be reached, as far as the libraries' errors tell. For advice to people; nothing
//! is decided by it.

use std::{error::Error, io, iter};

use rustls::{CertificateError, Error as TlsError};

/// What a connection did not come about for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreachable {
    /// The host's name has no address, or nobody who knows can be asked.
    Name,
    /// Nobody listens there.
    Refused,
    /// Nothing answers.
    Silent,
    /// No TLS.
    Tls(TlsTrouble),
    /// Anything else: no route, a connection that was cut.
    Other,
}

/// Why there is no TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsTrouble {
    /// The certificate has expired.
    Expired,
    /// The certificate is not valid yet.
    NotYetValid,
    /// Nobody who is trusted has signed it.
    UnknownAuthority,
    /// It is for other names.
    WrongName,
    /// What answers doesn't speak TLS.
    NotTls,
    /// The other side refuses: it wants another version, or another client certificate.
    Refused,
    /// Anything else.
    Other,
}

impl Unreachable {
    /// What an error of a connect means.
    pub fn of(error: &(dyn Error + 'static)) -> Self {
        if let Some(error) = causes(error).find_map(<dyn Error>::downcast_ref) {
            return Self::Tls(TlsTrouble::of(error));
        }
        if causes(error).any(|cause| cause.to_string().starts_with(LOOKUP_FAILED)) {
            return Self::Name;
        }
        match io_kind(error) {
            Some(io::ErrorKind::ConnectionRefused) => Self::Refused,
            Some(io::ErrorKind::TimedOut) => Self::Silent,
            _ => Self::Other,
        }
    }
}

impl TlsTrouble {
    fn of(error: &TlsError) -> Self {
        use CertificateError as Bad;
        match error {
            TlsError::InvalidCertificate(bad) => match bad {
                Bad::Expired | Bad::ExpiredContext { .. } => Self::Expired,
                Bad::NotValidYet | Bad::NotValidYetContext { .. } => Self::NotYetValid,
                // A certificate that signed itself is taken for an authority's that stands in the wrong place.
                Bad::UnknownIssuer | Bad::Other(_) => Self::UnknownAuthority,
                Bad::NotValidForName | Bad::NotValidForNameContext { .. } => Self::WrongName,
                _ => Self::Other,
            },
            TlsError::InvalidMessage(_) => Self::NotTls,
            TlsError::AlertReceived(_) => Self::Refused,
            _ => Self::Other,
        }
    }
}

/// How the standard library begins what the resolver said; its kind of error has no name.
const LOOKUP_FAILED: &str = "failed to lookup address information";

/// The kind of the innermost system error.
pub fn io_kind(error: &(dyn Error + 'static)) -> Option<io::ErrorKind> {
    causes(error).filter_map(|cause| cause.downcast_ref::<io::Error>()).last().map(io::Error::kind)
}

/// The error and what caused it, down to the root. An [`io::Error`] hides what it wraps from
/// [`Error::source`].
pub fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    iter::successors(Some(error), |cause| {
        let cause: &'a (dyn Error + 'static) = *cause;
        match cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => cause.source(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrapped_is_found() {
        let of = |error: TlsError| Unreachable::of(&io::Error::other(io::Error::other(error)));
        let bad = |bad| of(TlsError::InvalidCertificate(bad));
        assert_eq!(bad(CertificateError::Expired), Unreachable::Tls(TlsTrouble::Expired));
        assert_eq!(bad(CertificateError::NotValidYet), Unreachable::Tls(TlsTrouble::NotYetValid));
        assert_eq!(bad(CertificateError::UnknownIssuer), Unreachable::Tls(TlsTrouble::UnknownAuthority));
        assert_eq!(bad(CertificateError::BadSignature), Unreachable::Tls(TlsTrouble::Other));
        assert_eq!(
            of(TlsError::AlertReceived(rustls::AlertDescription::CertificateRequired)),
            Unreachable::Tls(TlsTrouble::Refused)
        );
        let refused = io::Error::other(io::Error::from(io::ErrorKind::ConnectionRefused));
        assert_eq!(Unreachable::of(&refused), Unreachable::Refused);
        assert_eq!(Unreachable::of(&io::Error::from(io::ErrorKind::TimedOut)), Unreachable::Silent);
        assert_eq!(Unreachable::of(&io::Error::from(io::ErrorKind::HostUnreachable)), Unreachable::Other);
    }

    #[test]
    fn a_name_without_an_address_is_told_from_a_host_that_does_not_answer() {
        use std::net::ToSocketAddrs as _;
        let error = "nowhere.invalid:443".to_socket_addrs().unwrap_err();
        assert_eq!(Unreachable::of(&error), Unreachable::Name, "{error}");
    }
}
