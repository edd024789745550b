//! What actors do in more than one scenario.

use super::{K, OTHER, tagged};
use crate::world::Me;

pub(super) async fn load(me: Me) {
    me.load(K).await;
}

pub(super) async fn load_twice(me: Me) {
    me.load(K).await;
    me.load(K).await;
}

pub(super) async fn load_both(me: Me) {
    me.load(K).await;
    me.load(OTHER).await;
}

pub(super) async fn load_other(me: Me) {
    me.load(OTHER).await;
}

pub(super) async fn get(me: Me) {
    me.get(K).await;
}

pub(super) async fn get_twice(me: Me) {
    me.get(K).await;
    me.get(K).await;
}

pub(super) async fn remove(me: Me) {
    me.remove(K).await;
}

pub(super) async fn remove_one_by_one(me: Me) {
    me.remove(K).await;
    me.remove(OTHER).await;
}

pub(super) async fn remove_then_load(me: Me) {
    me.remove(K).await;
    me.load(K).await;
}

pub(super) async fn remove_then_get(me: Me) {
    me.remove(K).await;
    me.get(K).await;
}

pub(super) async fn put(me: Me) {
    me.put(K).await;
}

pub(super) async fn put_then_get(me: Me) {
    me.put(K).await;
    me.get(K).await;
}

pub(super) async fn load_tagged(me: Me) {
    me.load_with(K, &tagged()).await;
}

pub(super) async fn revoke_tag_then_get(me: Me) {
    me.remove_tag("t", &[K]).await;
    me.get(K).await;
}

pub(super) async fn poll_then_get_both(me: Me) {
    me.poll().await;
    me.get(K).await;
    me.get(OTHER).await;
}
