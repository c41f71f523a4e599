package inspect_test

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"parley/crdt"
	"parley/crdt/historytest"
	"parley/crdt/transaction"
	"parley/server/audit"
	"parley/server/store"
	"parley/sync/presence"
)

// scene is a store as a server leaves it: a transaction with an agreement, a plain
// document, a pack and a snapshot of each, and two revocations.
type scene struct {
	database []byte
	public   audit.Public
}

const (
	sale  = transaction.ID("sale-1")
	agree = 6 // the agreement is over the first so many changes
)

var plainDocument = crdt.DocumentID([]byte("plain document 1"))

// theScene is made once.
var theScene = sync.OnceValues(func() (*scene, error) {
	dir, err := os.MkdirTemp("", "parley-inspect-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	s, err := store.Open(dir, store.Options{})
	if err != nil {
		return nil, err
	}
	key, err := audit.NewKey(rand.NewChaCha8([32]byte{1}), "parley-test")
	if err != nil {
		return nil, err
	}
	for _, do := range []func() error{
		func() error { return makeSale(s, key) },
		func() error { return makePlain(s) },
		func() error {
			return put(s, store.Batch{Revocation: &store.Revocation{User: "mallory", At: 1, By: "holly"}})
		},
		func() error {
			return put(s, store.Batch{Revocation: &store.Revocation{Token: "t", At: 2, By: "holly"}})
		},
		s.Close,
	} {
		if err := do(); err != nil {
			return nil, err
		}
	}
	database, err := os.ReadFile(filepath.Join(dir, "parley.db"))
	return &scene{database, key.Public()}, err
})

func put(s *store.Store, b store.Batch) error {
	done := make(chan error, 1)
	b.Done = func(err error) { done <- err }
	s.Append(b)
	return <-done
}

func makeSale(s *store.Store, key *audit.Key) error {
	doc := sale.Document()
	state, log := transaction.New(sale), &audit.Log{}
	clock := int64(1_800_000_000_000)
	var list []store.Change
	settings := presence.Settings{Parties: []string{"alice", "bob"}, Policy: presence.Reopen}
	arrive := func(user string, role transaction.Role, c *crdt.Change) error {
		clock += 1500
		log.Append(audit.Receipt{N: len(list), Change: c.Hash, Actor: c.Actor, User: user, Role: role, At: clock}.Leaf())
		list = append(list, store.Change{Hash: c.Hash, Chunk: c.Chunk(), User: user, Role: string(role), At: clock})
		if err := state.Apply(c); err != nil {
			return err
		}
		return put(s, store.Batch{Document: doc, Changes: list[len(list)-1:]})
	}
	edit := func(user string, role transaction.Role, do func(*transaction.Edit) error) error {
		actor := sha256.Sum256([]byte("actor of " + user))
		e := state.Edit(crdt.ActorID(actor[:16]), user, time.UnixMilli(clock))
		if err := do(e); err != nil {
			return err
		}
		c, err := e.Change()
		if err != nil {
			return err
		}
		return arrive(user, role, c)
	}
	if err := arrive("holly", transaction.Host, transaction.Genesis(sale)); err != nil {
		return err
	}
	fields := map[string]transaction.Field{"price": {Label: "Price", Required: true}}
	if err := edit("holly", transaction.Host, func(e *transaction.Edit) error { return e.SetFields(fields) }); err != nil {
		return err
	}
	for i := range 2 * agree {
		user := []string{"alice", "bob"}[i%2]
		err := edit(user, transaction.Party, func(e *transaction.Edit) error {
			return e.Pick("price", json.RawMessage(fmt.Sprint(100+i)), "")
		})
		if err != nil {
			return err
		}
		if len(list) == agree {
			if err := seal(s, key, state, log, settings, clock); err != nil {
				return err
			}
		}
	}
	data, err := json.Marshal(settings)
	if err != nil {
		return err
	}
	if err := put(s, store.Batch{Document: doc, Settings: data}); err != nil {
		return err
	}
	return aside(s, doc, list)
}

func seal(s *store.Store, key *audit.Key, state *transaction.State, log *audit.Log, settings presence.Settings, at int64) error {
	r := presence.Resolution{N: 1, Heads: state.Heads(), Parties: settings.Parties, Quorum: 2, At: at}
	root, err := log.Root(log.Size())
	if err != nil {
		return err
	}
	r.Checkpoint, err = key.Sign(audit.ResolutionCheckpoint(
		key.Public().Origin(sale.Document()), log.Size(), root, sale, r, settings.Parties))
	if err != nil {
		return err
	}
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return put(s, store.Batch{Document: sale.Document(), Resolution: &store.Resolution{Heads: r.Heads, Data: data}})
}

func makePlain(s *store.Store) error {
	var list []store.Change
	for i, c := range historytest.Random(7, 3, 40) {
		list = append(list, store.Change{Hash: c.Hash, Chunk: c.Chunk, User: "carol", Role: "party", At: 1_700_000_000_000 + int64(i)})
	}
	if err := put(s, store.Batch{Document: plainDocument, Changes: list}); err != nil {
		return err
	}
	return aside(s, plainDocument, list)
}

// aside stores a pack and a snapshot.
func aside(s *store.Store, id crdt.DocumentID, list []store.Change) error {
	doc, p := crdt.NewDocument(crdt.Limits{}), &store.Pack{}
	for _, c := range list {
		p.Hashes, p.Chunks, p.Users = append(p.Hashes, c.Hash), append(p.Chunks, c.Chunk), append(p.Users, c.User)
	}
	if err := doc.Load(p.Chunks...); err != nil {
		return err
	}
	p.Index = doc.AppendIndex(nil)
	snap, err := crdt.Compact(nil, p.Chunks, doc.Graph.Heads())
	if err != nil {
		return err
	}
	if err := s.PutPack(context.Background(), id, p); err != nil {
		return err
	}
	return s.PutSnapshot(context.Background(), id, snap)
}

// copied returns a folder with the scene's store.
func copied(t *testing.T) (dir string, public audit.Public) {
	t.Helper()
	s, err := theScene()
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "parley.db"), s.database, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir, s.public
}

// alter runs a script on a store as somebody with a shell does who leaves the
// triggers as they were.
func alter(t *testing.T, dir, script string) {
	t.Helper()
	db, err := sql.Open("sqlite3", filepath.Join(dir, "parley.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.Query("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'")
	if err != nil {
		t.Fatal(err)
	}
	var drop, create string
	for rows.Next() {
		var name, text string
		if err := rows.Scan(&name, &text); err != nil {
			t.Fatal(err)
		}
		drop, create = drop+"DROP TRIGGER "+name+";", create+text+";"
	}
	if err := rows.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(drop + script + ";" + create); err != nil {
		t.Fatalf("%s: %v", script, err)
	}
}

// mustShell runs a script as somebody with a shell does who leaves traces.
func mustShell(t *testing.T, dir, script string) {
	t.Helper()
	db, err := sql.Open("sqlite3", filepath.Join(dir, "parley.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(script); err != nil {
		t.Fatalf("%s: %v", script, err)
	}
}

// dump is what is stored that must be seen when it is altered.
func dump(t *testing.T, dir string) string {
	t.Helper()
	db, err := sql.Open("sqlite3", filepath.Join(dir, "parley.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	all := sha256.New()
	for _, query := range []string{
		"SELECT hex(id), key FROM document ORDER BY key",
		"SELECT hex(hash) || n || user || role, hex(chunk) FROM change ORDER BY document, n",
		"SELECT hex(heads) || n, hex(data) FROM resolution ORDER BY document, n",
		"SELECT hex(heads) || changes, hex(data) FROM snapshot ORDER BY document", "SELECT changes, hex(data) FROM pack ORDER BY document",
	} {
		rows, err := db.Query(query)
		if err != nil {
			return err.Error()
		}
		for rows.Next() {
			var a, b string
			if err := rows.Scan(&a, &b); err != nil {
				return err.Error()
			}
			fmt.Fprintln(all, a, b)
		}
		if err := rows.Err(); err != nil {
			return err.Error()
		}
	}
	return fmt.Sprintf("%x", all.Sum(nil))
}
