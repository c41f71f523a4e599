package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"parley/server/audit"
	"parley/server/store"
)

// The names of the signing key and of its public half in the data folder.
const (
	keyFile    = "parley.key"
	publicFile = "parley.pub"
)

// agreedKey returns the key that the server signs with: the same on all machines
// that share a store, or what one signs could not be checked by another's.
func agreedKey(ctx context.Context, dir string, st *store.Store) (*audit.Key, error) {
	const name = "public-key"
	if st.Shared() && !exists(filepath.Join(dir, keyFile)) {
		agreed, err := st.Agree(ctx, name, "")
		if err != nil {
			return nil, fmt.Errorf("ask the store for its public key: %w", err)
		}
		if agreed != "" {
			return nil, fmt.Errorf("%s is not there, and other servers of this store sign already: copy their %s into %s", filepath.Join(dir, keyFile), keyFile, dir)
		}
	}
	key, err := signingKey(dir, st.StorageID())
	if err != nil {
		return nil, err
	}
	agreed, err := st.Agree(ctx, name, key.Public().Text())
	switch {
	case err != nil:
		return nil, fmt.Errorf("tell the store the public key: %w", err)
	case agreed != key.Public().Text():
		return nil, fmt.Errorf("the key in %s is not the one that the other servers of this store sign with: copy their %s into %s", dir, keyFile, dir)
	}
	return key, nil
}

// signingKey returns the key in the data folder that the server signs with. It
// makes one at the first start, named after the store, and writes the public half
// beside it, which auditors need: where that is and the key is not, it was lost.
func signingKey(dir, storageID string) (*audit.Key, error) {
	path, public := filepath.Join(dir, keyFile), filepath.Join(dir, publicFile)
	text, err := os.ReadFile(path)
	var key *audit.Key
	switch {
	case errors.Is(err, fs.ErrNotExist) && exists(public):
		return nil, fmt.Errorf("%s is gone, and %s is there: put the key back from where it is kept; without it move the other away for a new key, by which no record can be made of what was agreed before", path, public)
	case errors.Is(err, fs.ErrNotExist):
		if key, err = audit.NewKey(rand.Reader, "parley-"+storageID[:8]); err != nil {
			return nil, err
		}
		if err := writeDurably(path, key.Text()+"\n", 0o600); err != nil {
			return nil, fmt.Errorf("keep the signing key: %w", err)
		}
	case err != nil:
		return nil, fmt.Errorf("read the signing key: %w", err)
	default:
		if key, err = audit.ParseKey(string(text)); err != nil {
			return nil, fmt.Errorf("%s: %w: put back the one that was there", path, err)
		}
	}
	if was, err := os.ReadFile(public); err == nil && string(was) == key.Public().Text()+"\n" {
		return key, nil
	}
	if err := writeDurably(public, key.Public().Text()+"\n", 0o644); err != nil {
		return nil, fmt.Errorf("write the public key: %w", err)
	}
	return key, nil
}

// warnOfKey logs that the key is no secret on this machine. A group may read it:
// that is how containers get their secrets.
func warnOfKey(dir string, log *slog.Logger) {
	path := filepath.Join(dir, keyFile)
	info, err := os.Stat(path)
	if err == nil && info.Mode().Perm()&0o007 != 0 {
		log.Warn("every user of this machine can read the key that the server signs with: chmod o-rwx it", "file", path, "mode", info.Mode().Perm())
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// writeDurably makes a file whole or not at all, and waits until it is on disk.
func writeDurably(path, text string, mode os.FileMode) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
