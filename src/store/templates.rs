//! Templates that bodies were made with: what was begun with one is repeated with it, also when the
//! configuration has another by then.

use sled::IVec;

use super::{
    Store, StoreError,
    commit::{Transaction, Write},
    keys,
    records::{MAX_INLINE, decode, encode},
};
use crate::template::{Template, TemplateId, TemplateSource};

const VERSION: u8 = 1;

impl Store {
    /// Keeps a template for good, unless it is there already. Handed over before whatever speaks of it: it
    /// can't be lost without that.
    pub fn keep_template(&self, template: &Template) -> Result<(), StoreError> {
        let id = template.id();
        if self.db.get(keys::template(id, 0))?.is_some() {
            return Ok(());
        }
        let bytes = encode(VERSION, template.source());
        // In parts: values above this are no good for the database.
        let parts = (0u8..).zip(bytes.chunks(MAX_INLINE));
        let writes =
            parts.map(|(part, bytes)| Write::Put(keys::template(id, part), IVec::from(bytes))).collect();
        // Lost while the store fails or closes, as all that would speak of it.
        let _ = self.committer.submit(Transaction { writes, ..Transaction::default() });
        Ok(())
    }

    /// A template that was kept, if it was.
    pub fn template(&self, id: TemplateId) -> Result<Option<TemplateSource>, StoreError> {
        let mut bytes = Vec::new();
        for part in self.db.scan_prefix(keys::template_parts(id)) {
            bytes.extend_from_slice(&part?.1);
        }
        if bytes.is_empty() { Ok(None) } else { decode(VERSION, "template", &bytes).map(Some) }
    }
}
