-- A ledger as the first version wrote it, dumped: runs in every state, a skip, odd names.
BEGIN TRANSACTION;
CREATE TABLE records (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    schedule_id TEXT NOT NULL,
    nominal_time INTEGER NOT NULL,
    key TEXT NOT NULL,
    run_id TEXT NOT NULL,
    verdict TEXT NOT NULL,
    reason TEXT NOT NULL,
    source TEXT NOT NULL,
    decided_at INTEGER NOT NULL,
    kept_until INTEGER NOT NULL
);
INSERT INTO "records" VALUES(1,'billing.v1.claimed',1803862800000000,'2027-03-01T01:00:00+00:00','claimed','accepted','on time','test',1803862800000000,1806454800000000);
INSERT INTO "records" VALUES(2,'billing.v1.active',1803866400000000,'2027-03-01T02:00:00+00:00','active','accepted','on time','test',1803862800000000,1806454800000000);
INSERT INTO "records" VALUES(3,'billing.v1.leased',1803870000000000,'2027-03-01T03:00:00+00:00','leased','accepted','on time','test',1803862800000000,1806454800000000);
INSERT INTO "records" VALUES(4,'billing.v1.failed',1803873600000000,'2027-03-01T04:00:00+00:00','failed','accepted','on time','test',1803862800000000,1806454800000000);
INSERT INTO "records" VALUES(5,'billing.v1.ended',1803877200000000,'2027-03-01T05:00:00+00:00','ended','accepted','on time','test',1803862800000000,1806454800000000);
INSERT INTO "records" VALUES(6,'billing.v1.expired',1803880800000000,'2027-03-01T06:00:00+00:00','expired','accepted','on time','test',1803862800000000,1806454800000000);
INSERT INTO "records" VALUES(7,'billing.v1.replaced',1803884400000000,'2027-03-01T07:00:00+00:00','replaced','accepted','on time','test',1803862800000000,1806454800000000);
INSERT INTO "records" VALUES(8,'billing.v1.replaced',1803895200000000,'2027-03-01T10:00:00+00:00','replacing','accepted','on time','test',1803862800000000,1806454800000000);
INSERT INTO "records" VALUES(9,'billing.v1.close',1803895200000000,'2027-03-01T10:00:00+00:00','late','late','too late','test',1803862800000000,1806454800000000);
INSERT INTO "records" VALUES(10,'billing.v1.close',1803895200000000,'2027-03-01T10:00:00+00:00','late','duplicate','it was skipped before','test',1803862800000000,1806454800000000);
INSERT INTO "records" VALUES(11,'Zürich''s "odd" 🕐',1803862800000000,'it''s','odd','accepted','x
y','test',1803862800000000,1806454800000000);
CREATE TABLE runs (
    run_id TEXT PRIMARY KEY,
    schedule_id TEXT NOT NULL,
    nominal_time INTEGER NOT NULL,
    key TEXT NOT NULL,
    status TEXT NOT NULL,
    token INTEGER NOT NULL,
    owner TEXT NOT NULL,
    claimed_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    lease_until INTEGER,
    ended_at INTEGER,
    outcome TEXT NOT NULL,
    is_dispatched INTEGER NOT NULL,
    kept_until INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO "runs" VALUES('active','billing.v1.active',1803866400000000,'2027-03-01T02:00:00+00:00','active',2,'first',1803862800000000,1803866400000000,NULL,NULL,'',1,1806458400000000);
INSERT INTO "runs" VALUES('claimed','billing.v1.claimed',1803862800000000,'2027-03-01T01:00:00+00:00','claimed',1,'first',1803862800000000,1803866400000000,1803862830000000,NULL,'',0,1806458400000000);
INSERT INTO "runs" VALUES('ended','billing.v1.ended',1803877200000000,'2027-03-01T05:00:00+00:00','ended',5,'first',1803862800000000,1803866400000000,NULL,1803862801000000,'acked',1,1806458400000000);
INSERT INTO "runs" VALUES('expired','billing.v1.expired',1803880800000000,'2027-03-01T06:00:00+00:00','expired',6,'first',1803862800000000,1803866400000000,1803862830000000,1803866400000000,'run_timeout',0,1806458400000000);
INSERT INTO "runs" VALUES('failed','billing.v1.failed',1803873600000000,'2027-03-01T04:00:00+00:00','failed',4,'first',1803862800000000,1803866400000000,NULL,NULL,'',0,1806458400000000);
INSERT INTO "runs" VALUES('leased','billing.v1.leased',1803870000000000,'2027-03-01T03:00:00+00:00','active',3,'first',1803862800000000,1803866400000000,1803862860000000,NULL,'',1,1806458400000000);
INSERT INTO "runs" VALUES('odd','Zürich''s "odd" 🕐',1803862800000000,'it''s','claimed',11,'first',1803862800000000,1803866400000000,1803862830000000,NULL,'',0,1806458400000000);
INSERT INTO "runs" VALUES('replaced','billing.v1.replaced',1803884400000000,'2027-03-01T07:00:00+00:00','replaced',7,'first',1803862800000000,1803866400000000,NULL,1803862800000000,'replaced',0,1806458400000000);
INSERT INTO "runs" VALUES('replacing','billing.v1.replaced',1803895200000000,'2027-03-01T10:00:00+00:00','claimed',8,'first',1803862800000000,1803866400000000,1803862830000000,NULL,'',0,1806458400000000);
CREATE TABLE schedules (
    schedule_id TEXT PRIMARY KEY,
    latest INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO "schedules" VALUES('Zürich''s "odd" 🕐',1803862800000000);
INSERT INTO "schedules" VALUES('billing.v1.active',1803866400000000);
INSERT INTO "schedules" VALUES('billing.v1.claimed',1803862800000000);
INSERT INTO "schedules" VALUES('billing.v1.close',1803895200000000);
INSERT INTO "schedules" VALUES('billing.v1.ended',1803877200000000);
INSERT INTO "schedules" VALUES('billing.v1.expired',1803880800000000);
INSERT INTO "schedules" VALUES('billing.v1.failed',1803873600000000);
INSERT INTO "schedules" VALUES('billing.v1.leased',1803870000000000);
INSERT INTO "schedules" VALUES('billing.v1.replaced',1803895200000000);
CREATE TABLE skips (
    schedule_id TEXT NOT NULL,
    key TEXT NOT NULL,
    nominal_time INTEGER NOT NULL,
    run_id TEXT NOT NULL,
    seen_at INTEGER NOT NULL,
    kept_until INTEGER NOT NULL,
    PRIMARY KEY (schedule_id, key, nominal_time)
) WITHOUT ROWID;
INSERT INTO "skips" VALUES('billing.v1.close','2027-03-01T10:00:00+00:00',1803895200000000,'late',1803862800000000,1806454800000000);
CREATE INDEX runs_of_key ON runs (schedule_id, key, claimed_at);
CREATE INDEX runs_by_time ON runs (schedule_id, nominal_time);
CREATE INDEX runs_unfinished ON runs (schedule_id, status) WHERE ended_at IS NULL;
CREATE INDEX runs_leased ON runs (owner) WHERE lease_until IS NOT NULL;
CREATE INDEX runs_kept ON runs (kept_until);
CREATE INDEX skips_kept ON skips (kept_until);
CREATE INDEX records_of_schedule ON records (schedule_id);
CREATE INDEX records_kept ON records (kept_until);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('records',11);
COMMIT;
PRAGMA application_id = 1347768905;
PRAGMA user_version = 1;
