//! What every coordinator keeps. Each behaviour is a function of one coordinator; [`contract!`] makes a room of tests
//! of it:
//!
//! ```text
//! contract!(memory, ((), Hub::with_log(Clock::system(), LOG_LENGTH)));
//! ```
//!
//! The subject is a pair: whatever must live as long as the coordinator, and the coordinator, whose log keeps
//! [`LOG_LENGTH`] entries.

mod below;
mod leases;
mod log;
mod puts;
mod sizes;
mod steps;
mod tags;

use std::time::Duration;

pub(super) use self::below::*;
pub(super) use self::leases::*;
pub(super) use self::log::*;
pub(super) use self::puts::*;
pub(super) use self::sizes::*;
pub(super) use self::steps::*;
pub(super) use self::tags::*;
use super::memory::Hub;
use crate::clock::Clock;

pub(super) const LOG_LENGTH: usize = 200;
pub(super) const LEASE: Duration = Duration::from_secs(10);
pub(super) const TTL: Duration = Duration::from_secs(100);
const SHORT: Duration = Duration::from_millis(30);
const PATIENCE: Duration = Duration::from_secs(20);

macro_rules! contract {
    ($room:ident, $subject:expr) => {
        $crate::coordinator::contract::contract!(@tests $room, $subject;
            a_lease_is_granted_to_one_load,
            the_same_load_may_ask_twice,
            asking_again_does_not_renew_an_older_grant,
            a_present_value_is_answered_unless_it_is_to_be_refreshed,
            a_fill_stores_and_ends_the_lease,
            a_fill_without_a_lease_is_refused,
            a_lease_belongs_to_a_load_not_to_a_client,
            an_expired_lease_refuses_its_fill,
            a_value_of_no_life_is_refused_and_ends_the_lease,
            only_its_owner_ends_a_lease,
            a_renewed_lease_lasts_and_stays_what_it_was,
            only_a_lease_that_is_held_is_renewed,
            a_fill_after_a_removal_is_refused,
            a_removal_concerns_its_keys_only,
            a_fill_after_the_fence_moved_is_refused,
            a_fill_of_another_epoch_is_refused,
            a_put_leaves_its_lease_to_the_writer,
            the_later_of_two_puts_wins,
            a_put_after_the_fence_moved_is_filled,
            a_put_before_the_fence_moved_is_not,
            a_change_answers_the_fence_that_the_next_grant_has,
            the_tags_of_a_put_are_created_before_it_is_logged,
            a_tag_revoked_during_a_put_refuses_it,
            a_replacement_stores_over_everything,
            a_removal_closes_the_tiers_below_for_its_keys,
            the_fence_closes_them_for_all,
            a_tag_that_was_revoked_refuses_the_fill,
            a_tag_chosen_by_the_loader_is_created_and_compared,
            a_tagged_value_names_its_place_in_the_log,
            tag_tokens_come_in_order_and_unknown_ones_are_missing,
            revoking_a_tag_moves_the_log_in_any_case,
            a_new_epoch_knows_no_tags,
            a_new_log_stands_at_its_beginning,
            the_log_is_dense_and_chained,
            the_log_is_read_in_pages,
            the_log_is_trimmed_to_its_length,
            what_is_not_announced_is_not_logged,
            a_change_of_values_elsewhere_is_only_logged,
            an_unannounced_change_of_values_elsewhere_is_nothing,
            concurrent_changes_keep_the_chain,
            a_fork_ends_the_epoch_of_its_position_once,
            a_fork_ends_an_epoch_wherever_its_log_stands,
            a_message_is_its_log_entry,
            a_thousand_keys_are_one_change,
            any_key_will_do,
        );
    };
    (@tests $room:ident, $subject:expr; $($behaviour:ident),* $(,)?) => {
        mod $room {
            #[allow(unused_imports, reason = "what the subject is made of")]
            use super::*;

            $(
                #[tokio::test]
                async fn $behaviour() {
                    let subject = $subject;
                    $crate::coordinator::contract::$behaviour(&subject.1).await;
                }
            )*
        }
    };
}
pub(super) use contract;

contract!(memory, ((), Hub::with_log(Clock::system(), LOG_LENGTH)));
