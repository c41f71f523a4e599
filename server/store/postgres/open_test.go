package postgres_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"parley/server/store"
	"parley/server/store/pgtest"
	"parley/server/store/postgres"
	"parley/server/store/storetest"
)

// password is what must be in no error and no log.
const password = "hunter2secret"

// mustRefuse fails the test unless a database is not opened, with these words.
func mustRefuse(t *testing.T, url string, want ...string) {
	t.Helper()
	s, err := postgres.Open(t.Context(), url, store.Options{})
	if err == nil {
		t.Errorf("%s was opened", url)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		return
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q does not say %q", err, w)
		}
	}
	if strings.Contains(err.Error(), password) || strings.Contains(err.Error(), "\n") {
		t.Errorf("it says the password, or has several lines: %q", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	pg := pgtest.Shared(t)
	url := pg.Database(t)
	as := func(user, url string) string { return strings.Replace(url, "parley@", user+":"+password+"@", 1) }
	mustRefuse(t, as("parley", strings.Replace(url, "127.0.0.1", "nosuch.invalid", 1)), "nosuch.invalid: is")
	mustRefuse(t, as("parley", strings.Replace(url, "sslmode=disable", "sslmode=require", 1)), "speaks no TLS", "sslmode=disable")
	mustRefuse(t, as("parley", url)+"&search_path=nosuch", "3F000", "CREATE SCHEMA")
	mustRefuse(t, as("parley", pg.URL("nowhere")), "does not exist", "createdb")
	mustRefuse(t, as("stranger", url), "stranger", "check the user")
	mustRefuse(t, "postgres://a:"+password+"@[::1/x", "cannot be read")
	mustRefuse(t, "postgres://a:"+password+"%zz@h/x", "cannot be read")
	mustRefuse(t, "host=127.0.0.1 password="+password, "cannot be read")
	mustRefuse(t, "postgres://a:"+password+"@h:port/x", "cannot be read")

	pg.Exec(t, url, "CREATE ROLE guest LOGIN; REVOKE CREATE ON SCHEMA public FROM PUBLIC")
	mustRefuse(t, as("guest", url), "permission denied", "GRANT")

	copied := pg.Database(t)
	pg.Exec(t, copied, "ALTER DATABASE "+copied[strings.LastIndex(copied, "/")+1:strings.Index(copied, "?")]+" SET default_transaction_read_only = on")
	mustRefuse(t, as("parley", copied), "takes no writes")

	foreign := pg.Database(t)
	pg.Exec(t, foreign, "CREATE TABLE animals (name text)")
	mustRefuse(t, as("parley", foreign), "another program", "createdb")
	pg.Exec(t, foreign, "CREATE TABLE meta (animal text)")
	mustRefuse(t, as("parley", foreign), "another program")

	if err := open(t, url).Close(); err != nil {
		t.Fatal(err)
	}
	pg.Exec(t, url, "UPDATE meta SET value = '99' WHERE name = 'schema'")
	mustRefuse(t, as("parley", url), "newer parley", "99")
}

// TestOpenRefusesEncodings: names of people and fields may have any character.
func TestOpenRefusesEncodings(t *testing.T) {
	pg := pgtest.Shared(t)
	for _, encoding := range []string{"LATIN1", "SQL_ASCII"} {
		name := "in_" + strings.ToLower(encoding)
		pg.Exec(t, pg.URL("postgres"), "DROP DATABASE IF EXISTS "+name)
		pg.Exec(t, pg.URL("postgres"), "CREATE DATABASE "+name+" ENCODING '"+encoding+"' LOCALE 'C' TEMPLATE template0")
		mustRefuse(t, strings.Replace(pg.URL(name), "parley@", "parley:"+password+"@", 1), encoding, "createdb -E UTF8 -T template0")
	}
}

// TestSecrets: where a database is can be said, and the password is not.
func TestSecrets(t *testing.T) {
	got := postgres.Place("postgres://me:" + password + "@db.example:6543/parley?password=" + password)
	if got != "postgres://db.example:6543/parley" {
		t.Errorf("it is at %s", got)
	}
	if got := postgres.Place("nothing " + password); strings.Contains(got, password) {
		t.Errorf("it is at %s", got)
	}
}

// TestOpenTogether: nodes that start at once make one schema and one store.
func TestOpenTogether(t *testing.T) {
	url := pgtest.Shared(t).Database(t)
	ids := make([]string, 6)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			s, err := postgres.Open(context.Background(), url, store.Options{})
			if err != nil {
				t.Error(err)
				return
			}
			ids[i] = s.StorageID()
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id != ids[0] || len(id) != 36 {
			t.Errorf("storage ids %q", ids)
		}
	}
}

// TestRightsOfANode: once the tables are there, a node needs no more than to read
// and to append.
func TestRightsOfANode(t *testing.T) {
	pg := pgtest.Shared(t)
	url := pg.Database(t)
	if err := open(t, url).Close(); err != nil {
		t.Fatal(err)
	}
	pg.Exec(t, url, `CREATE ROLE node LOGIN;
		GRANT USAGE ON SCHEMA public TO node;
		GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA public TO node;
		GRANT UPDATE ON document, snapshot, pack TO node;
		GRANT UPDATE, DELETE ON node, publisher, presence TO node`)
	s := open(t, strings.Replace(url, "parley@", "node@", 1))
	storetest.MustAppend(t, s, store.Batch{Document: storetest.Document(1), Changes: storetest.Changes(0, 3), Settings: []byte("s")})
	storetest.MustResolve(t, s, storetest.Document(1), storetest.Resolution(0, 1, "r"))
	if err := s.PutPack(t.Context(), storetest.Document(1), storetest.PackOf(storetest.Changes(0, 3)...)); err != nil {
		t.Error(err)
	}
	storetest.MustAppend(t, s, store.Batch{Revocation: &store.Revocation{User: "u", By: "host"}})
	if agreed, err := s.Agree(t.Context(), "name", "one"); err != nil || agreed != "one" {
		t.Errorf("agreed on %q, %v", agreed, err)
	}
	if agreed, err := s.Agree(t.Context(), "name", "two"); err != nil || agreed != "one" {
		t.Errorf("agreed on %q, %v", agreed, err)
	}
	if agreed, err := s.Agree(t.Context(), "other", ""); err != nil || agreed != "" {
		t.Errorf("agreed on %q, %v", agreed, err)
	}
	storetest.MustHold(t, s, storetest.Document(1), storetest.Changes(0, 3)...)
	storetest.MustBeat(t, s)
	storetest.MustPublish(t, s, store.Presence{Document: storetest.Document(1), Data: []byte("p")})
	storetest.MustPublish(t, s, store.Presence{Document: storetest.Document(1)})
}

// TestRowsStay: a person with an SQL shell alters nothing by accident.
func TestRowsStay(t *testing.T) {
	pg := pgtest.Shared(t)
	url := pg.Database(t)
	s := open(t, url)
	storetest.MustAppend(t, s, store.Batch{Document: storetest.Document(1), Changes: storetest.Changes(0, 3), Settings: []byte("s"),
		Resolution: storetest.Resolution(0, 1, "r"), Revocation: &store.Revocation{User: "u", By: "host"}})
	for _, table := range []string{"change", "settings", "resolution", "revocation", "document"} {
		for _, sql := range []string{"DELETE FROM " + table, "TRUNCATE " + table + " CASCADE"} {
			if err := execute(url, sql); err == nil || !strings.Contains(err.Error(), "never") {
				t.Errorf("%s: %v", sql, err)
			}
		}
	}
	for _, sql := range []string{
		"UPDATE change SET role = 'host'", "UPDATE settings SET data = ''", "UPDATE resolution SET n = 2", "UPDATE revocation SET until = 1",
		"UPDATE document SET changes = 2", "UPDATE document SET id = '0123456789abcdef'", "UPDATE document SET resolutions = 0",
	} {
		if err := execute(url, sql); err == nil || !strings.Contains(err.Error(), "never") {
			t.Errorf("%s: %v", sql, err)
		}
	}
	storetest.MustHold(t, s, storetest.Document(1), storetest.Changes(0, 3)...)
}

// TestDamage: what is damaged is found as it is read, and what can do without is
// left out.
func TestDamage(t *testing.T) {
	pg := pgtest.Shared(t)
	url := pg.Database(t)
	var log strings.Builder
	s, err := postgres.Open(t.Context(), url, store.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	a := storetest.Changes(0, 4)
	for d := range 3 {
		storetest.MustPut(t, s, storetest.Document(d), a...)
	}
	if err := s.PutPack(t.Context(), storetest.Document(0), storetest.PackOf(a[:3]...)); err != nil {
		t.Fatal(err)
	}
	pg.Exec(t, url, "UPDATE pack SET data = data || '\\x00'")
	storetest.MustHold(t, s, storetest.Document(0), a...)
	if !strings.Contains(log.String(), "a pack of changes is damaged") {
		t.Errorf("logged: %s", log.String())
	}
	key := fmt.Sprintf("(SELECT key FROM document WHERE id = '%s')", string(idOf(1)))
	pg.Exec(t, url, "ALTER TABLE change DISABLE TRIGGER USER; UPDATE change SET chunk = chunk || '\\x00' WHERE n = 2 AND document = "+key)
	if _, err := s.Load(t.Context(), storetest.Document(1)); err == nil || !strings.Contains(err.Error(), "change 2 does not match") {
		t.Errorf("a damaged change loads: %v", err)
	}
	for _, n := range []string{"2", "4"} { // in the midst, and at the end
		key := fmt.Sprintf("(SELECT key FROM document WHERE id = '%s')", string(idOf(2)))
		pg.Exec(t, url, "ALTER TABLE change DISABLE TRIGGER USER; DELETE FROM change WHERE n = "+n+" AND document = "+key)
		if _, err := s.Load(t.Context(), storetest.Document(2)); err == nil || !strings.Contains(err.Error(), "changes are missing") {
			t.Errorf("without change %s it loads: %v", n, err)
		}
	}
}

func idOf(i int) []byte { id := storetest.Document(i); return id[:] }

// TestReadOnlyForAWhile: a database that takes no writes for a while stalls the store.
func TestReadOnlyForAWhile(t *testing.T) {
	pg := pgtest.Shared(t)
	url := pg.Database(t)
	s := open(t, url)
	a := storetest.Changes(0, 2)
	storetest.MustPut(t, s, storetest.Document(1), a[0])
	name := url[strings.LastIndex(url, "/")+1 : strings.Index(url, "?")]
	set := func(value string) {
		pg.Exec(t, pg.URL("postgres"), "ALTER DATABASE "+name+" SET default_transaction_read_only = "+value)
		pg.Exec(t, pg.URL("postgres"), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '"+name+"'")
	}
	set("on")
	done := make(chan error, 1)
	s.Append(store.Batch{Document: storetest.Document(1), Changes: a[1:], Done: func(err error) { done <- err }})
	for s.Status() == nil || !strings.Contains(s.Status().Error(), "takes no writes") {
		time.Sleep(5 * time.Millisecond)
	}
	set("off")
	if err := <-done; err != nil {
		t.Error(err)
	}
	storetest.MustHold(t, s, storetest.Document(1), a...)
	if err := s.Status(); err != nil {
		t.Error(err)
	}
}

// TestOpenWaits: a database that is there and takes nobody in yet is waited for, and
// in the end the error says why.
func TestOpenWaits(t *testing.T) {
	primary := pgtest.Start(t, pgtest.Options{})
	standby := primary.Standby(t, pgtest.Options{Closed: true})
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := postgres.Open(ctx, standby.URL("postgres"), store.Options{}); err == nil || !strings.Contains(err.Error(), "57P03") || !strings.Contains(err.Error(), "its log") {
		t.Errorf("it takes nobody in: %v", err)
	}
	var log strings.Builder
	opened := make(chan error, 1)
	go func() {
		s, err := postgres.Open(t.Context(), standby.URL("postgres"), store.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if err == nil {
			err = s.Close()
		}
		opened <- err
	}()
	select {
	case err := <-opened:
		t.Fatalf("it was not waited for: %v", err)
	case <-time.After(300 * time.Millisecond):
	}
	primary.Kill(t)
	standby.Promote(t)
	if err := <-opened; err != nil {
		t.Error(err)
	}
	if n := strings.Count(log.String(), "waiting for the database"); n != 1 {
		t.Errorf("it logged %s", log.String())
	}
}

// TestOpenWaitsForOneThatIsNotThere: a database that refuses connections is about to
// be started, most likely.
func TestOpenWaitsForOneThatIsNotThere(t *testing.T) {
	pg := pgtest.Start(t, pgtest.Options{})
	pg.Kill(t)
	url := strings.Replace(pg.URL("postgres"), "parley@", "parley:"+password+"@", 1)
	ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
	defer cancel()
	_, err := postgres.Open(ctx, url, store.Options{})
	if err == nil || !strings.Contains(err.Error(), "connection refused: is it running") || strings.Contains(err.Error(), password) {
		t.Errorf("it is not there: %v", err)
	}
	if ctx.Err() == nil {
		t.Error("it was not waited for")
	}
	waits := make(chan struct{}, 10)
	log := slog.New(slog.NewTextHandler(onWrite(func() { waits <- struct{}{} }), nil))
	opened := make(chan error, 1)
	go func() {
		s, err := postgres.Open(t.Context(), url, store.Options{Logger: log})
		if err == nil {
			err = s.Close()
		}
		opened <- err
	}()
	select {
	case <-waits:
	case err := <-opened:
		t.Fatalf("it was not waited for: %v", err)
	}
	if err := pg.Restart(); err != nil {
		t.Fatal(err)
	}
	if err := <-opened; err != nil {
		t.Error(err)
	}
}

// onWrite is called at everything that is written to it.
type onWrite func()

func (f onWrite) Write(b []byte) (int, error) {
	f()
	return len(b), nil
}

// TestUpgrade: a database from before servers told each other who is present gets the
// tables for that, while one of those that were there goes on.
func TestUpgrade(t *testing.T) {
	pg := pgtest.Shared(t)
	url := pg.Schema(t)
	older := open(t, url)
	storetest.MustPut(t, older, storetest.Document(1), storetest.Changes(0, 2)...)
	pg.Exec(t, url, "DROP TABLE node, publisher, presence, memory; UPDATE meta SET value = '1' WHERE name = 'schema'")
	s := open(t, url)
	storetest.MustBeat(t, s)
	storetest.MustPublish(t, s, store.Presence{Document: storetest.Document(1), Data: []byte("p")})
	storetest.MustPut(t, older, storetest.Document(1), storetest.Changes(2, 1)...)
	storetest.MustHold(t, s, storetest.Document(1), storetest.Changes(0, 3)...)
}
