//! A user's messages, newest first.

use super::{ClientMessageId, MessageNumber, MessageRecord, MessageStatus, Messages};
use crate::store::{StoreError, UserNumber};

/// Commits that are looked at in one go: then others have a turn.
const STEP: usize = 128;

/// Which messages are meant.
#[derive(Debug, Clone, Copy)]
pub struct Selection {
    /// Whose.
    pub user: UserNumber,
    /// Only those of this status.
    pub status: Option<MessageStatus>,
    /// Only those that were accepted before the one of this number.
    pub before: Option<MessageNumber>,
}

/// Some of a user's messages, newest first.
#[derive(Debug, Default)]
pub struct MessagePage {
    /// They, with what is remembered of them.
    pub messages: Vec<(ClientMessageId, MessageRecord)>,
    /// Where to go on, if there are more: before this one.
    pub next: Option<MessageNumber>,
}

impl Messages {
    /// A page of at most `limit` messages.
    pub async fn list(&self, meant: Selection, limit: usize) -> Result<MessagePage, StoreError> {
        let mut page = MessagePage::default();
        let mut before = meant.before.unwrap_or(MessageNumber(u64::MAX));
        while let Some(further) = self.look_back(meant, before, limit, &mut page)? {
            before = further;
            tokio::task::yield_now().await;
        }
        Ok(page)
    }

    /// Looks through some commits; answers with where to go on looking, if the page is not full yet.
    fn look_back(
        &self,
        meant: Selection,
        before: MessageNumber,
        limit: usize,
        page: &mut MessagePage,
    ) -> Result<Option<MessageNumber>, StoreError> {
        let mut commits = 0;
        let mut further = before;
        for journal in self.shared.store.accepted_before(before).take(STEP) {
            let journal = journal?;
            for message in journal.messages.iter().rev().filter(|message| message.user == meant.user) {
                // Forgotten in between, it is none.
                let Some(record) = self.find(meant.user, message.id)? else { continue };
                if record.number >= before || meant.status.is_some_and(|status| status != record.status) {
                    continue;
                }
                if page.messages.len() == limit {
                    page.next = page.messages.last().map(|(_, record)| record.number);
                    return Ok(None);
                }
                page.messages.push((message.id, record));
            }
            further = journal.first;
            commits += 1;
        }
        Ok((commits == STEP).then_some(further))
    }
}
