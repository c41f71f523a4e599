package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"parley/server/audit"
)

// The names of the signing key and of its public half in the data folder.
const (
	keyFile    = "parley.key"
	publicFile = "parley.pub"
)

// signingKey returns the key in the data folder that the server signs with. It
// makes one at the first start, named after the store, and writes the public half
// beside it, which auditors need.
func signingKey(dir, storageID string) (*audit.Key, error) {
	path := filepath.Join(dir, keyFile)
	text, err := os.ReadFile(path)
	var key *audit.Key
	switch {
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
			return nil, fmt.Errorf("%s: %w: put back the one that was there, or move it away for a new one, by which earlier records cannot be verified", path, err)
		}
	}
	public := filepath.Join(dir, publicFile)
	if was, err := os.ReadFile(public); err == nil && string(was) == key.Public().Text()+"\n" {
		return key, nil
	}
	if err := writeDurably(public, key.Public().Text()+"\n", 0o644); err != nil {
		return nil, fmt.Errorf("write the public key: %w", err)
	}
	return key, nil
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
