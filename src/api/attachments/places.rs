//! How many uploads are under way at once: each takes memory, and each of them the platform's pace.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::{
    api::problem::{Code, Problem},
    store::UserNumber,
};

/// Uploads at once, of all users: some 3 MiB each.
const AT_ONCE: usize = 32;
/// How long a request waits for those before it. Its body waits in its caller's hands.
const PATIENCE: Duration = Duration::from_secs(30);

/// The places for uploads: one a user, so that a request and its repeat never are under way together, and a
/// limit for all.
#[derive(Debug)]
pub(in crate::api) struct Places {
    all: Arc<Semaphore>,
    users: Mutex<HashMap<UserNumber, Weak<tokio::sync::Mutex<()>>>>,
}

/// A place for one upload, for as long as it lives.
#[derive(Debug)]
pub(super) struct Place {
    _of_all: OwnedSemaphorePermit,
    _of_user: OwnedMutexGuard<()>,
}

impl Default for Places {
    fn default() -> Self {
        Self { all: Arc::new(Semaphore::new(AT_ONCE)), users: Mutex::default() }
    }
}

impl Places {
    /// Waits for a place.
    pub(super) async fn take(&self, user: UserNumber) -> Result<Place, Problem> {
        let taking = async {
            let of_user = self.of(user).lock_owned().await;
            let of_all = self.all.clone().acquire_owned().await.expect("it is never closed");
            Place { _of_all: of_all, _of_user: of_user }
        };
        timeout(PATIENCE, taking).await.map_err(|_| {
            let detail = "another upload of this user, or too many of all users, are under way; come again";
            Problem::new(Code::UploadsBusy, detail).retry_after(PATIENCE)
        })
    }

    fn of(&self, user: UserNumber) -> Arc<tokio::sync::Mutex<()>> {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = users.get(&user).and_then(Weak::upgrade) {
            return place;
        }
        // What nobody holds is forgotten here: there are no more entries than uploads.
        users.retain(|_, place| place.strong_count() > 0);
        let place = Arc::default();
        users.insert(user, Arc::downgrade(&place));
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_a_user_and_a_limit_for_all() {
        let places = Places::default();
        let first = places.take(UserNumber(0)).await.unwrap();
        let busy = places.take(UserNumber(0)).await.map_err(|problem| problem.code());
        assert_eq!(busy.err(), Some(Code::UploadsBusy));
        drop(first);
        let mut all = Vec::new();
        for user in 0..AT_ONCE as u32 {
            all.push(places.take(UserNumber(user)).await.unwrap());
        }
        assert!(places.take(UserNumber(999)).await.is_err());
        all.pop();
        drop(places.take(UserNumber(999)).await.unwrap());
        all.clear();
        drop(places.take(UserNumber(0)).await.unwrap());
        assert!(places.users.lock().unwrap().len() <= 1, "nothing is kept of who is gone");
    }
}
