package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// migrations lead from one schema to the next; the row "schema" of the table meta
// counts those done. A released one is never edited.
//
// The tables are those of SQLite, so that the same questions can be asked of both,
// but for the name of who delivered a change: user is a word of SQL's own, and
// means somebody else. A document's row says how far it has come; who appends to it
// holds that row.
var migrations = []string{
	`CREATE TABLE meta (
		name  text PRIMARY KEY,
		value text NOT NULL
	);

	CREATE TABLE document (
		key         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
		id          bytea  NOT NULL UNIQUE CHECK (length(id) = 16),
		changes     bigint NOT NULL DEFAULT 0,
		settings    bigint NOT NULL DEFAULT 0,
		resolutions bigint NOT NULL DEFAULT 0
	) WITH (fillfactor = 50); -- a row is updated where it is

	CREATE TABLE change (
		document bigint NOT NULL REFERENCES document (key),
		n        bigint NOT NULL CHECK (n > 0),
		hash     bytea  NOT NULL CHECK (length(hash) = 32),
		chunk    bytea  NOT NULL,
		username text   NOT NULL,
		role     text   NOT NULL,
		at       bigint NOT NULL,
		PRIMARY KEY (document, n),
		UNIQUE (document, hash)
	);

	CREATE TABLE settings (
		document bigint NOT NULL REFERENCES document (key),
		n        bigint NOT NULL CHECK (n > 0),
		data     bytea  NOT NULL,
		PRIMARY KEY (document, n)
	);

	CREATE TABLE resolution (
		document bigint NOT NULL REFERENCES document (key),
		n        bigint NOT NULL CHECK (n > 0),
		heads    bytea  NOT NULL CHECK (length(heads) > 0 AND length(heads) % 32 = 0),
		data     bytea  NOT NULL,
		PRIMARY KEY (document, n),
		UNIQUE (document, heads)
	);

	CREATE TABLE revocation (
		n        bigint PRIMARY KEY CHECK (n > 0),
		username text   NOT NULL,
		token    text   NOT NULL,
		at       bigint NOT NULL,
		until    bigint NOT NULL,
		by       text   NOT NULL,
		CHECK (username <> '' OR token <> ''),
		UNIQUE (username, token, at, until, by)
	);

	CREATE TABLE snapshot (
		document bigint PRIMARY KEY REFERENCES document (key),
		changes  bigint NOT NULL,
		heads    bytea  NOT NULL CHECK (length(heads) % 32 = 0),
		sha256   bytea  NOT NULL CHECK (length(sha256) = 32),
		data     bytea  NOT NULL
	);
	ALTER TABLE snapshot ALTER COLUMN data SET STORAGE EXTERNAL; -- it is compressed already

	CREATE TABLE pack (
		document bigint PRIMARY KEY REFERENCES document (key),
		changes  bigint NOT NULL,
		sha256   bytea  NOT NULL CHECK (length(sha256) = 32),
		data     bytea  NOT NULL
	);

	CREATE FUNCTION parley_refuses() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN RAISE EXCEPTION 'rows of % are never altered or deleted', TG_TABLE_NAME; END $$;
	CREATE FUNCTION parley_grows() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			IF NEW.key <> OLD.key OR NEW.id <> OLD.id OR NEW.changes < OLD.changes
				OR NEW.settings < OLD.settings OR NEW.resolutions < OLD.resolutions THEN
				RAISE EXCEPTION 'documents are never renamed, nor shortened';
			END IF;
			RETURN NEW;
		END $$;
	CREATE TRIGGER change_stays BEFORE UPDATE OR DELETE ON change FOR EACH ROW EXECUTE FUNCTION parley_refuses();
	CREATE TRIGGER settings_stay BEFORE UPDATE OR DELETE ON settings FOR EACH ROW EXECUTE FUNCTION parley_refuses();
	CREATE TRIGGER resolution_stays BEFORE UPDATE OR DELETE ON resolution FOR EACH ROW EXECUTE FUNCTION parley_refuses();
	CREATE TRIGGER revocation_stays BEFORE UPDATE OR DELETE ON revocation FOR EACH ROW EXECUTE FUNCTION parley_refuses();
	CREATE TRIGGER document_stays BEFORE DELETE ON document FOR EACH ROW EXECUTE FUNCTION parley_refuses();
	CREATE TRIGGER document_grows BEFORE UPDATE ON document FOR EACH ROW EXECUTE FUNCTION parley_grows();
	CREATE TRIGGER change_is_kept BEFORE TRUNCATE ON change EXECUTE FUNCTION parley_refuses();
	CREATE TRIGGER settings_are_kept BEFORE TRUNCATE ON settings EXECUTE FUNCTION parley_refuses();
	CREATE TRIGGER resolution_is_kept BEFORE TRUNCATE ON resolution EXECUTE FUNCTION parley_refuses();
	CREATE TRIGGER revocation_is_kept BEFORE TRUNCATE ON revocation EXECUTE FUNCTION parley_refuses();
	CREATE TRIGGER document_is_kept BEFORE TRUNCATE ON document EXECUTE FUNCTION parley_refuses();`,

	// What the nodes tell each other of who is present: no disk waits for it, and after a
	// crash of the database it is gone, until they say it again. That a document is not
	// stored, or not yet, does not matter here.
	`CREATE UNLOGGED TABLE node (
		id      bytea       PRIMARY KEY CHECK (length(id) = 8),
		begun   bigint      NOT NULL, -- what it has published with lower numbers is gone
		expires timestamptz NOT NULL -- when its lease ends
	) WITH (fillfactor = 50);

	CREATE UNLOGGED TABLE publisher (
		node bytea  PRIMARY KEY CHECK (length(node) = 8),
		seq  bigint NOT NULL -- of what it has published last; its row is held by who publishes
	) WITH (fillfactor = 50);

	CREATE UNLOGGED TABLE presence (
		document bytea  NOT NULL CHECK (length(document) = 16),
		node     bytea  NOT NULL CHECK (length(node) = 8),
		seq      bigint NOT NULL,
		data     bytea  NOT NULL,
		PRIMARY KEY (document, node)
	) WITH (fillfactor = 50);
	CREATE INDEX presence_node ON presence (node);`,

	// That the row of memory is missing says that the database has forgotten all that is
	// unlogged. Nodes that run while this is made do not make it again.
	`CREATE UNLOGGED TABLE memory (
		id    int         PRIMARY KEY CHECK (id = 1),
		since timestamptz NOT NULL -- what was published before it is forgotten
	);
	INSERT INTO memory SELECT 1, CASE WHEN EXISTS (SELECT FROM document) THEN clock_timestamp() ELSE '-infinity' END;`,
}

// migrationLock is the advisory lock under which one process at a time looks at the
// schema and brings it up to date: "Prly".
const migrationLock = 0x50726c79

// revocationLock is the one under which revocations are numbered: "PrlR".
const revocationLock = 0x50726c52

// NewerError says that a newer Parley has written the database.
type NewerError struct{ Found, Know int }

func (e *NewerError) Error() string {
	return fmt.Sprintf("the database was written by a newer parley (its format is %d, this binary knows up to %d): run that version or a later one", e.Found, e.Know)
}

// ForeignError says that there are tables of another program.
type ForeignError struct{}

func (e *ForeignError) Error() string {
	return "the database holds tables of another program: make one for parley alone (createdb parley), or name a schema with ?search_path="
}

// whole refuses a database into which a folder is being copied.
func whole(ctx context.Context, tx pgx.Tx) error {
	var unfinished bool
	err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM meta WHERE name = $1)", unfinishedMark).Scan(&unfinished)
	if err == nil && unfinished {
		err = &UnfinishedError{}
	}
	return err
}

// migrate brings the schema up to date, all or nothing, and returns the store's id.
// Nodes that start together wait for each other. begin belongs to it.
func migrate(ctx context.Context, c *pgx.Conn, begin func(context.Context, pgx.Tx) error) (storageID string, err error) {
	tx, err := c.Begin(ctx)
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			_ = tx.Rollback(ctx) // what failed says more
		}
	}()
	if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", migrationLock); err != nil {
		return "", err
	}
	version, err := schemaVersion(ctx, tx)
	if err != nil {
		return "", err
	}
	if version < len(migrations) {
		for i, m := range migrations[version:] {
			if _, err := tx.Exec(ctx, m, pgx.QueryExecModeSimpleProtocol); err != nil {
				return "", fmt.Errorf("migration %d: %w", version+i+1, err)
			}
		}
		_, err = tx.Exec(ctx, `INSERT INTO meta (name, value) VALUES ('schema', $1), ('storage-id', $2)
			ON CONFLICT (name) DO UPDATE SET value = excluded.value WHERE meta.name = 'schema'`,
			fmt.Sprint(len(migrations)), uuid.NewString())
		if err != nil {
			return "", err
		}
	}
	if err := begin(ctx, tx); err != nil {
		return "", err
	}
	if err := tx.QueryRow(ctx, "SELECT value FROM meta WHERE name = 'storage-id'").Scan(&storageID); err != nil {
		return "", fmt.Errorf("read the storage id: %w", err)
	}
	return storageID, tx.Commit(ctx)
}

// schemaVersion tells an empty schema (0) and ours from every other.
func schemaVersion(ctx context.Context, tx pgx.Tx) (version int, err error) {
	var tables int
	var ours bool
	err = tx.QueryRow(ctx, `SELECT count(*), coalesce(bool_or(relname = 'meta'), false)
		FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p', 'v', 'm')`).Scan(&tables, &ours)
	if err != nil {
		return 0, err
	}
	if tables == 0 {
		return 0, nil
	}
	if ours {
		err = tx.QueryRow(ctx, "SELECT value::int FROM meta WHERE name = 'schema'").Scan(&version)
	}
	switch {
	case !ours || errors.Is(err, pgx.ErrNoRows) || isState(err, "42703", "22P02"):
		return 0, &ForeignError{}
	case err != nil:
		return 0, err
	case version > len(migrations):
		return 0, &NewerError{Found: version, Know: len(migrations)}
	}
	return version, nil
}
