package store_test

import (
	"testing"

	"parley/server/store"
	"parley/server/store/storetest"
)

type folder struct {
	dir string
	opt store.Options
}

func (f folder) Open(t testing.TB) storetest.Store { return open(t, f.dir, f.opt) }

// open closes the store with the test, if the test has not.
func open(t testing.TB, dir string, opt store.Options) *store.Store {
	t.Helper()
	s, err := store.Open(dir, opt)
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

func TestStore(t *testing.T) {
	storetest.Run(t, func(t testing.TB) storetest.Place { return folder{dir: t.TempDir()} })
}
