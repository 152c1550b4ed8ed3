/* What librdkafka does with a hint of a partition's new leader: here, nothing.
 *
 * The linker puts it in the place of librdkafka's own function of the same form; see
 * ../build.rs for why and how. The result says that the hint was handled, upon which the
 * caller frees it (RD_KAFKA_OP_RES_HANDLED, the second of an enum that begins at 0).
 *
 * Weak, since a program may hold two versions of this crate. */

__attribute__((weak)) int fanout_rd_kafka_metadata_update_op(void *client, void *hint) {
        (void)client;
        (void)hint;
        return 1;
}
