//! A user's task that is warm when it runs: what it needs of its memory is asked for as soon as it is woken.
//!
//! A task touches some twenty places of its own and of its user's, one behind the other. With thousands of users none
//! of them is in a cache when a frame comes.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

use crate::{
    names::UserName,
    prefetch::prefetch,
    users::{Mailbox, User},
};

pin_project! {
    /// See the [module](self).
    pub(super) struct Warm<F> {
        user: Arc<User>,
        // Of the user, too: here so that none has to be waited for to find the other.
        mailbox: Arc<Mailbox>,
        name: UserName,
        #[pin]
        task: F,
    }
}

impl<F> Warm<F> {
    pub(super) fn new(user: &Arc<User>, task: F) -> Self {
        Self { user: Arc::clone(user), mailbox: Arc::clone(&user.mailbox), name: user.name.clone(), task }
    }
}

impl<F: Future> Future for Warm<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        prefetch(&**this.user);
        prefetch(&**this.mailbox);
        prefetch(this.name.as_str());
        prefetch(&*this.task);
        this.task.poll(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::Timestamp, names::BotName, store::UserNumber};

    #[tokio::test]
    async fn it_runs_as_the_task_does() {
        let (name, bot) = (UserName::new("alice").unwrap(), BotName::new("support").unwrap());
        let user = Arc::new(User::new(name, UserNumber(1), bot, Timestamp::from_millis(0)));
        let task = async {
            tokio::task::yield_now().await;
            "done"
        };
        assert_eq!(Warm::new(&user, task).await, "done");
        assert_eq!(Arc::strong_count(&user), 1, "it holds the user no longer than it runs");
    }
}
