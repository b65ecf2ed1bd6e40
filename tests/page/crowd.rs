//! A bridge of many users, without their sockets.

use std::sync::Arc;

use rtm_bridge::{
    clock::Timestamp,
    names::{BotName, UserName},
    store::UserNumber,
    users::{ConnectionState, User, UserStatus},
};

use crate::support::World;

/// So many more users, as the daemon knows them: a few of each thousand are in trouble, nobody connects them.
pub fn join(world: &World, size: u32) {
    let bot = BotName::new("support").unwrap();
    let since = Timestamp::now();
    for n in 1..=size {
        let name = UserName::new(&format!("user-{n:05}")).unwrap();
        let user = User::new(name, UserNumber(1_000 + n), bot.clone(), since);
        let (state, error) = match n % 1_000 {
            7 => (ConnectionState::Unauthorized, Some("the platform refuses the credentials")),
            8..=12 => {
                (ConnectionState::BackingOff, Some("the platform could not be reached: connection refused"))
            }
            _ => (ConnectionState::Connected, None),
        };
        user.set_status(UserStatus { state, since, last_error: error.map(Into::into), attempts: 0 });
        world.daemon().users().insert(Arc::new(user));
    }
}
