//! A user's record.

use serde::{Deserialize, Serialize};

use crate::{
    clock::Timestamp,
    config::Secret,
    store::user_record::{Access, ConnectHistory, Seen, UserRecord},
};

/// [`UserRecord`] as it is stored.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::store) struct UserRecordV1 {
    access: Option<(String, Timestamp, [u8; 16])>,
    platform_user_id: Option<String>,
    history: ConnectHistory,
    seen: Option<Seen>,
}

impl UserRecordV1 {
    pub(in crate::store) const VERSION: u8 = 1;
}

impl From<&UserRecord> for UserRecordV1 {
    fn from(record: &UserRecord) -> Self {
        let access = record.access.as_ref();
        Self {
            access: access.map(|a| (a.token.expose().to_owned(), a.expires_at, a.granted_for)),
            platform_user_id: record.platform_user_id.clone(),
            history: record.history,
            seen: record.seen.clone(),
        }
    }
}

impl From<UserRecordV1> for UserRecord {
    fn from(record: UserRecordV1) -> Self {
        let access = record.access.map(|(token, expires_at, granted_for)| Access {
            token: Secret::new(token),
            expires_at,
            granted_for,
        });
        let UserRecordV1 { platform_user_id, history, seen, .. } = record;
        Self { access, platform_user_id, history, seen }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{
        Hole,
        records::{decode, encode},
    };

    #[test]
    fn its_form_is_stable() {
        let record = UserRecord {
            access: Some(Access {
                token: Secret::new("tok"),
                expires_at: Timestamp::from_millis(1_700_000_000_000),
                granted_for: [7; 16],
            }),
            platform_user_id: Some("u-1".to_owned()),
            history: ConnectHistory::Before,
            seen: Some(Seen {
                up_to: Timestamp::from_millis(300),
                holes: vec![Hole { from: Timestamp::from_millis(1), to: Timestamp::from_millis(2) }],
                alive_at: Timestamp::from_millis(3),
            }),
        };
        let bytes = encode(UserRecordV1::VERSION, &UserRecordV1::from(&record));
        insta::assert_snapshot!(format!("{bytes:02x?}"), @"[01, 01, 03, 74, 6f, 6b, 80, d0, 95, ff, bc, 31, 07, 07, 07, 07, 07, 07, 07, 07, 07, 07, 07, 07, 07, 07, 07, 07, 01, 03, 75, 2d, 31, 01, 01, ac, 02, 01, 01, 02, 03]");
        let back: UserRecordV1 = decode(UserRecordV1::VERSION, "user", &bytes).unwrap();
        assert_eq!(UserRecord::from(back), record);
    }
}
