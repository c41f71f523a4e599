package postgres_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"go.uber.org/goleak"

	"parley/server/store"
	"parley/server/store/pgtest"
	"parley/server/store/postgres"
	"parley/server/store/storetest"
)

// childEnv makes this binary a process that a test starts beside itself.
const childEnv = "PARLEY_POSTGRES_TEST_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(childEnv) {
	case "write":
		os.Exit(childWrites(os.Args[1], os.Args[2]))
	case "migrate":
		os.Exit(childMigrates(os.Args[1], os.Args[2]))
	}
	code := pgtest.Main(m)
	if err := goleak.Find(); code == 0 && err != nil {
		println(err.Error())
		code = 1
	}
	os.Exit(code)
}

// database is a place of its own for every test.
type database struct{ url string }

func (d database) Open(t testing.TB) storetest.Store { return open(t, d.url) }

// open closes the store with the test, if the test has not.
func open(t testing.TB, url string) *store.Store {
	t.Helper()
	s, err := postgres.Open(t.Context(), url, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (d database) Rounds() int { return 8 }

func TestStore(t *testing.T) {
	storetest.Run(t, func(t testing.TB) storetest.Place {
		return database{pgtest.Shared(t).Schema(t)}
	})
}

func TestSharedStore(t *testing.T) {
	storetest.RunShared(t, func(t testing.TB) storetest.Place {
		return database{pgtest.Shared(t).Schema(t)}
	})
}

// execute runs SQL that may fail.
func execute(url, sql string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close(ctx) }()
	_, err = c.Exec(ctx, sql)
	return err
}
