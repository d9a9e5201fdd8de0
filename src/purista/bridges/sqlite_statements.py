"""The statements of SQLite queues. The columns of a job are in the order of ``job_values``."""

ENQUEUE = """
INSERT INTO queue_jobs
(queue, due, enqueued_at, max_attempts, message_id, body, details, is_leased, leases, attempts)
VALUES (?, ?, ?, ?, ?, ?, ?, 0, 0, 0)
"""
DUE = """
SELECT number, due, is_leased, leases, attempts, max_attempts, message_id, body, details
FROM queue_jobs WHERE queue = ? AND due <= ? ORDER BY due, number LIMIT ?
"""
NEXT_DUE = "SELECT min(due) FROM queue_jobs WHERE queue = ?"
LEND = """
UPDATE queue_jobs SET due = ?, is_leased = 1, leases = leases + 1, attempts = attempts + 1
WHERE number = ?
"""
GIVE_BACK = """
UPDATE queue_jobs SET due = ?, is_leased = 0, attempts = attempts - 1
WHERE number = ? AND leases = ? AND is_leased
"""
EXTEND = "UPDATE queue_jobs SET due = ? WHERE number = ? AND leases = ? AND is_leased"
ACK = "DELETE FROM queue_jobs WHERE number = ? AND leases = ? AND is_leased"
HELD = """
SELECT number, attempts, max_attempts FROM queue_jobs
WHERE number = ? AND leases = ? AND is_leased
"""
RETRY = "UPDATE queue_jobs SET due = ?, is_leased = 0 WHERE number = ?"
USED_UP = """
SELECT number, attempts FROM queue_jobs
WHERE queue = ? AND due <= ? AND is_leased AND attempts >= max_attempts ORDER BY due LIMIT ?
"""
BURY = """
INSERT INTO queue_dead (queue, max_attempts, message_id, body, details, attempts, reason, died_at)
SELECT queue, max_attempts, message_id, body, details, attempts, ?, ?
FROM queue_jobs WHERE number = ?
"""
FORGET = "DELETE FROM queue_jobs WHERE number = ?"
LETTERS = """
SELECT attempts, reason, died_at, max_attempts, message_id, body, details
FROM queue_dead WHERE queue = ? ORDER BY number
"""
REDRIVE = """
INSERT INTO queue_jobs
(queue, due, enqueued_at, max_attempts, message_id, body, details, is_leased, leases, attempts)
SELECT queue, ?, ?, max_attempts, message_id, body, details, 0, 0, 0
FROM queue_dead WHERE queue = ? ORDER BY number
"""
REDRIVE_ONE = REDRIVE.replace("ORDER BY", "AND message_id = ? ORDER BY")
PURGE = "DELETE FROM queue_dead WHERE queue = ?"
PURGE_ONE = "DELETE FROM queue_dead WHERE queue = ? AND message_id = ?"
KEY = "SELECT until FROM queue_keys WHERE queue = ? AND key = ?"
KEEP_KEY = "INSERT OR REPLACE INTO queue_keys VALUES (?, ?, ?)"
FORGET_KEYS = """
DELETE FROM queue_keys WHERE (queue, key) IN
(SELECT queue, key FROM queue_keys WHERE until <= ? ORDER BY until LIMIT ?)
"""
