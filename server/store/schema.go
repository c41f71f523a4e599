package store

import (
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/mattn/go-sqlite3"
)

// applicationID marks the database file as Parley's, in the place that SQLite
// has for it: "Prly".
const applicationID = 0x50726c79

// backupID marks a backup of a store, which none is served from: "PrlB".
const backupID = 0x50726c42

// migrations lead from one schema to the next; PRAGMA user_version counts those
// done. A released one is never edited.
//
// A change lies beside the others of its document, in commit order, so that
// opening a document reads neighbouring pages. What is said about a change later
// (who delivered it, when) are further columns of its row. The triggers stop
// accidents and people with a SQL shell, not somebody with the file.
var migrations = []string{
	`CREATE TABLE meta (
		name  TEXT PRIMARY KEY,
		value TEXT NOT NULL
	) STRICT, WITHOUT ROWID;

	CREATE TABLE document (
		key INTEGER PRIMARY KEY,
		id  BLOB NOT NULL UNIQUE CHECK (length(id) = 16)
	) STRICT;

	CREATE TABLE change (
		document INTEGER NOT NULL REFERENCES document (key),
		n        INTEGER NOT NULL CHECK (n > 0),
		hash     BLOB NOT NULL CHECK (length(hash) = 32),
		chunk    BLOB NOT NULL,
		PRIMARY KEY (document, n),
		UNIQUE (document, hash)
	) STRICT, WITHOUT ROWID;
	CREATE TRIGGER change_is_not_updated BEFORE UPDATE ON change
		BEGIN SELECT RAISE(ABORT, 'changes are never altered'); END;
	CREATE TRIGGER change_is_not_deleted BEFORE DELETE ON change
		BEGIN SELECT RAISE(ABORT, 'changes are never deleted'); END;
	CREATE TRIGGER document_is_not_updated BEFORE UPDATE ON document
		BEGIN SELECT RAISE(ABORT, 'documents are never renamed'); END;
	CREATE TRIGGER document_is_not_deleted BEFORE DELETE ON document
		BEGIN SELECT RAISE(ABORT, 'documents are never deleted'); END;

	CREATE TABLE snapshot (
		document INTEGER PRIMARY KEY REFERENCES document (key),
		changes  INTEGER NOT NULL,
		heads    BLOB NOT NULL CHECK (length(heads) % 32 = 0),
		sha256   BLOB NOT NULL CHECK (length(sha256) = 32),
		data     BLOB NOT NULL
	) STRICT;`,

	`ALTER TABLE change ADD COLUMN user TEXT NOT NULL DEFAULT '';

	CREATE TABLE settings (
		document INTEGER PRIMARY KEY REFERENCES document (key),
		data     BLOB NOT NULL
	) STRICT;`,

	`CREATE TABLE resolution (
		document INTEGER NOT NULL REFERENCES document (key),
		n        INTEGER NOT NULL CHECK (n > 0),
		heads    BLOB NOT NULL CHECK (length(heads) > 0 AND length(heads) % 32 = 0),
		data     BLOB NOT NULL,
		PRIMARY KEY (document, n),
		UNIQUE (document, heads)
	) STRICT, WITHOUT ROWID;
	CREATE TRIGGER resolution_is_not_updated BEFORE UPDATE ON resolution
		BEGIN SELECT RAISE(ABORT, 'resolutions are never altered'); END;
	CREATE TRIGGER resolution_is_not_deleted BEFORE DELETE ON resolution
		BEGIN SELECT RAISE(ABORT, 'resolutions are never deleted'); END;`,

	// With these a change's row is its receipt: in the same commit, as unalterable.
	`ALTER TABLE change ADD COLUMN role TEXT NOT NULL DEFAULT '';
	ALTER TABLE change ADD COLUMN at INTEGER NOT NULL DEFAULT 0;`,

	`CREATE TABLE revocation (
		n     INTEGER PRIMARY KEY,
		user  TEXT NOT NULL,
		token TEXT NOT NULL,
		at    INTEGER NOT NULL,
		until INTEGER NOT NULL,
		by    TEXT NOT NULL,
		CHECK (user <> '' OR token <> '')
	) STRICT;
	CREATE TRIGGER revocation_is_not_updated BEFORE UPDATE ON revocation
		BEGIN SELECT RAISE(ABORT, 'revocations are never altered'); END;
	CREATE TRIGGER revocation_is_not_deleted BEFORE DELETE ON revocation
		BEGIN SELECT RAISE(ABORT, 'revocations are never deleted'); END;`,

	// INSERT OR REPLACE deletes what is in its way without asking the triggers on
	// deletion.
	`CREATE TRIGGER change_is_not_replaced BEFORE INSERT ON change
		WHEN EXISTS (SELECT 1 FROM change WHERE document = NEW.document AND n = NEW.n)
			OR EXISTS (SELECT 1 FROM change WHERE document = NEW.document AND hash = NEW.hash)
		BEGIN SELECT RAISE(IGNORE); END;
	CREATE TRIGGER resolution_is_not_replaced BEFORE INSERT ON resolution
		WHEN EXISTS (SELECT 1 FROM resolution WHERE document = NEW.document AND (n = NEW.n OR heads = NEW.heads))
		BEGIN SELECT RAISE(IGNORE); END;`,

	`CREATE TRIGGER document_is_not_replaced BEFORE INSERT ON document
		WHEN EXISTS (SELECT 1 FROM document WHERE key = NEW.key OR id = NEW.id)
		BEGIN SELECT RAISE(ABORT, 'documents are never replaced'); END;
	CREATE TRIGGER revocation_is_not_replaced BEFORE INSERT ON revocation
		WHEN EXISTS (SELECT 1 FROM revocation WHERE n = NEW.n)
		BEGIN SELECT RAISE(ABORT, 'revocations are never replaced'); END;`,

	`CREATE TABLE pack (
		document INTEGER PRIMARY KEY REFERENCES document (key),
		changes  INTEGER NOT NULL,
		sha256   BLOB NOT NULL CHECK (length(sha256) = 32),
		data     BLOB NOT NULL
	) STRICT;`,
}

// identify tells an empty database (0) and ours (its schema version) from every
// other. It writes nothing: the file may be somebody else's.
func identify(c *conn, dir, path string) (version int, err error) {
	app, err := c.integer("PRAGMA application_id")
	if err != nil {
		return 0, unreadable(path, err)
	}
	found, err := c.integer("PRAGMA user_version")
	if err != nil {
		return 0, unreadable(path, err)
	}
	tables, err := c.integer("SELECT count(*) FROM sqlite_schema")
	if err != nil {
		return 0, unreadable(path, err)
	}
	switch {
	case app == 0 && found == 0 && tables == 0:
		return 0, nil
	case app != applicationID && app != backupID:
		return 0, &ForeignError{Path: path}
	case int(found) > len(migrations):
		return 0, &NewerError{Dir: dir, Found: int(found), Know: len(migrations)}
	case app == backupID:
		return 0, &BackupError{Path: path, version: int(found)}
	}
	return int(found), nil
}

// unreadable tells a file that is no sound database from one that cannot be
// read just now.
func unreadable(path string, err error) error {
	var e sqlite3.Error
	if errors.As(err, &e) && (e.Code == sqlite3.ErrNotADB || e.Code == sqlite3.ErrCorrupt) {
		return &ForeignError{Path: path, Err: err}
	}
	return fmt.Errorf("read %s: %w", path, err)
}

// migrate brings the schema from version to the newest, all or nothing.
func migrate(c *conn, version int) error {
	if version == len(migrations) {
		return nil
	}
	if _, err := c.exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	for i, m := range migrations[version:] {
		if err := c.script(m); err != nil {
			return fmt.Errorf("migration %d: %w", version+i+1, err)
		}
	}
	mark := fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = %d", applicationID, len(migrations))
	if err := c.script(mark); err != nil {
		return err
	}
	_, err := c.exec("COMMIT")
	return err
}

const sqlStorageID = "SELECT value FROM meta WHERE name = 'storage-id'"

// storageID returns the id that the store got when it was made.
func storageID(c *conn) (string, error) {
	v, err := c.one(sqlStorageID)
	if err != nil {
		return "", err
	}
	if len(v) == 0 {
		fresh := uuid.NewString()
		if _, err := c.exec("INSERT INTO meta (name, value) VALUES ('storage-id', ?)", fresh); err != nil {
			return "", err
		}
		return fresh, nil
	}
	id, ok := v[0].(string)
	if !ok {
		return "", fmt.Errorf("storage id: %T, want text", v[0])
	}
	return id, nil
}
