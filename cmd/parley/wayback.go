package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/mattn/go-sqlite3"

	"parley/server/store"
)

// wayBack adds what to do to why a server does not start, if it is the data folder.
func wayBack(dir string, err error) error {
	if err == nil {
		return nil
	}
	var foreign *store.ForeignError
	var unreadable *store.UnreadableError
	var sqlite sqlite3.Error
	damaged := errors.As(err, &foreign) && foreign.Err != nil || errors.As(err, &unreadable) ||
		errors.As(err, &sqlite) && (sqlite.Code == sqlite3.ErrCorrupt || sqlite.Code == sqlite3.ErrNotADB)
	switch {
	case damaged:
		return &codedError{exitDamaged, fmt.Errorf("%w: parley check --data %s says what is damaged, parley restore puts a backup into another folder", err, dir)}
	case denied(err) && unwritable(dir):
		return fmt.Errorf("%w: data folder %s may not be written by the user that this runs as: give that user the folder and what is in it, or choose another with --data", err, dir)
	}
	return err
}

// unwritable reports whether we may not write to a data folder, or to the store's
// files in it.
func unwritable(dir string) bool {
	const write = 2 // W_OK
	notWritten := func(path string) bool {
		err := syscall.Access(path, write)
		return errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS)
	}
	if notWritten(dir) {
		return true
	}
	list, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return notWritten(filepath.Dir(dir))
	}
	return slices.ContainsFunc(list, func(e fs.DirEntry) bool {
		ours := e.Name() == "lock" || strings.HasPrefix(e.Name(), "parley.db")
		return ours && notWritten(filepath.Join(dir, e.Name()))
	})
}

// denied says whether an error is that something may not be written or opened.
func denied(err error) bool {
	var sqlite sqlite3.Error
	if errors.As(err, &sqlite) {
		switch sqlite.Code {
		case sqlite3.ErrReadonly, sqlite3.ErrCantOpen, sqlite3.ErrPerm:
			return true
		}
	}
	return errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS)
}
