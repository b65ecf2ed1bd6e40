//! Who a user is for the platform.

use std::sync::Arc;

use crate::{
    config::Identity,
    store::{Store, StoreError, UserNumber},
};

/// Who signs in: what an assertion (JWT) says of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The `sub`.
    pub name: Arc<str>,
    /// `isAnonymous`, and so whether the platform keeps them as a user.
    pub standing: Standing,
}

/// What the platform is to make of somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// A user like any other.
    Known,
    /// Nobody in particular.
    Anonymous,
}

impl Subject {
    /// Whom the configuration means by an identity. An anonymous user without one gets a random one, which
    /// the store keeps: the next run is the same user.
    pub fn of(identity: &Identity, user: UserNumber, store: &Store) -> Result<Self, StoreError> {
        let name = match identity {
            Identity::Known(name) | Identity::Anonymous(Some(name)) => name.clone(),
            Identity::Anonymous(None) => store.made_identity(user, Self::random_name)?,
        };
        let standing = match identity {
            Identity::Known(_) => Standing::Known,
            Identity::Anonymous(_) => Standing::Anonymous,
        };
        Ok(Self { name: name.into(), standing })
    }

    /// Whom the configuration means, without a store: an anonymous user without an identity is another one each
    /// time.
    pub fn for_a_try(identity: &Identity) -> Self {
        match identity {
            Identity::Known(name) => name.as_str().into(),
            Identity::Anonymous(name) => {
                let name = name.clone().unwrap_or_else(Self::random_name);
                Self { name: name.into(), standing: Standing::Anonymous }
            }
        }
    }

    /// A name that nobody has: a random UUID (version 4).
    pub fn random_name() -> String {
        let mut bytes = [0; 16];
        if aws_lc_rs::rand::fill(&mut bytes).is_err() {
            // Unique is all that it has to be.
            bytes = fastrand::u128(..).to_be_bytes();
        }
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let digits = format!("{:032x}", u128::from_be_bytes(bytes));
        let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
        parts.join("-")
    }

    /// Whether it is nobody in particular.
    pub fn is_anonymous(&self) -> bool {
        self.standing == Standing::Anonymous
    }
}

impl From<&str> for Subject {
    /// Somebody known.
    fn from(name: &str) -> Self {
        Self { name: name.into(), standing: Standing::Known }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::store;

    #[test]
    fn a_random_name_is_a_uuid_and_another_each_time() {
        let (one, other) = (Subject::random_name(), Subject::random_name());
        assert_ne!(one, other);
        let lengths: Vec<_> = one.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12]);
        assert!(one[14..].starts_with('4') && "89ab".contains(&one[19..20]), "{one}");
    }

    #[test]
    fn who_has_no_identity_gets_one_for_good_and_who_has_one_keeps_it() {
        let (_directory, store) = store();
        let of = |identity: &Identity| Subject::of(identity, UserNumber(1), &store).unwrap();
        let made = of(&Identity::Anonymous(None));
        assert_eq!(made, of(&Identity::Anonymous(None)));
        assert!(made.is_anonymous());
        let named = of(&Identity::Anonymous(Some("visitor".into())));
        assert_eq!((&*named.name, named.is_anonymous()), ("visitor", true));
        assert_eq!(of(&"alice".into()), Subject::from("alice"));
    }
}
