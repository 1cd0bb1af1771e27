// Package records is the database of records: one bbolt file with a bucket for each kind.
//
// A Put is one transaction: it is durable and visible as a whole when it returns, or not at all, also across kill -9 and power
// loss (bbolt syncs its pages before the meta page that names them). One process at a time has the file open; within it all methods
// may be used from several goroutines. Errors: NotFound from Get, Conflict from Put of a New record whose key is taken.
package records

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime/debug"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// A Store is an open database.
type Store struct {
	db *bolt.DB

	mu     sync.RWMutex
	hidden map[[2]string]bool // kind and key; guarded by mu
}

// Open opens the database at path and makes it, mode 0600, if it is missing; one that is there and empty is damaged. It reads every record once, so that damage is found here
// and not when a record is needed. It doesn't wait for a process that has the file open: that is a Conflict. The caller closes the Store.
func Open(path string) (*Store, error) {
	if err := check(path); err != nil {
		return nil, explain(path, err)
	}
	if err := create(path); err != nil {
		return nil, explain(path, err)
	}
	db, err := open(path, false)
	if err != nil {
		return nil, explain(path, err)
	}
	return &Store{db: db, hidden: map[[2]string]bool{}}, nil
}

// create makes a database that is missing, elsewhere first: an empty file at path is never ours.
func create(path string) error {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	fresh := path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	db, err := open(fresh, false)
	if err != nil {
		return err
	}
	if err := db.Close(); err != nil {
		return err
	}
	return os.Rename(fresh, path)
}

// errDamaged marks what can't be right in a file.
var errDamaged = errors.New("it doesn't hold together")

func explain(path string, err error) error {
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return errs.New(errs.Conflict, "open records %s: another process has it open", path)
	case errors.Is(err, errDamaged), errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrChecksum), errors.Is(err, berrors.ErrVersionMismatch):
		return fmt.Errorf("open records %s: the file is damaged: %w", path, err)
	}
	return fmt.Errorf("open records %s: %w", path, err)
}

// guard runs f and returns its panic as errDamaged. bbolt panics on nonsense in pages, and the memory map faults (SIGBUS, mmap(2)) behind
// the end of a truncated file; both are I/O errors to us.
func guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", errDamaged, p)
		}
	}()
	return f()
}

// open has bbolt open the file, without waiting: it gives up after its first try to lock if the timeout is below its retry interval.
func open(path string, readOnly bool) (db *bolt.DB, err error) {
	err = guard(func() error {
		var err error
		db, err = bolt.Open(path, 0o600, &bolt.Options{Timeout: time.Millisecond, ReadOnly: readOnly})
		return err
	})
	return db, err
}

// check reads every record of an existing file, which it opens read-only: so bbolt does not load its list of free pages, and can't
// panic, with the lock held for ever, before the size has been compared.
func check(path string) error {
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if st.Size() == 0 {
		return fmt.Errorf("%w: it is empty", errDamaged)
	}
	db, err := open(path, true)
	if err != nil {
		return err
	}
	return errors.Join(guard(func() error { return db.View(func(tx *bolt.Tx) error { return readAll(tx, st.Size()) }) }), db.Close())
}

// readAll visits every record; size is the file's, in bytes.
func readAll(tx *bolt.Tx, size int64) error {
	if size < tx.Size() {
		return fmt.Errorf("%w: it has %d bytes where %d belong", errDamaged, size, tx.Size())
	}
	return tx.ForEach(func(kind []byte, b *bolt.Bucket) error {
		return b.ForEach(func(k, v []byte) error {
			if v == nil {
				return fmt.Errorf("%w: %s/%s is no record", errDamaged, kind, k)
			}
			return nil
		})
	})
}

// Put stores puts and deletes deletes in one transaction. A delete of a key that is not there is done already.
func (s *Store) Put(ctx context.Context, puts []brig.Record, deletes []brig.Record) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	err := s.db.Update(func(tx *bolt.Tx) error {
		for _, r := range deletes {
			if b := tx.Bucket([]byte(r.Kind)); b != nil {
				if err := b.Delete([]byte(r.Key)); err != nil {
					return errs.Wrap(err, "delete record %s/%s", r.Kind, r.Key)
				}
			}
		}
		for _, r := range puts {
			if err := put(tx, r); err != nil {
				return errs.Wrap(err, "put record %s/%s", r.Kind, r.Key)
			}
		}
		return nil
	})
	if err == nil {
		s.shown(puts, deletes)
	}
	return err
}

func put(tx *bolt.Tx, r brig.Record) error {
	b, err := tx.CreateBucketIfNotExists([]byte(r.Kind))
	if err != nil {
		return err
	}
	if r.New && b.Get([]byte(r.Key)) != nil {
		return errs.New(errs.Conflict, "there is one already")
	}
	return b.Put([]byte(r.Key), r.Value)
}

// Get returns a record's value, the caller's own.
func (s *Store) Get(ctx context.Context, kind, key string) (value []byte, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	err = s.db.View(func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte(kind))
		if b == nil {
			return errs.New(errs.NotFound, "no record %s/%s", kind, key)
		}
		v := b.Get([]byte(key))
		if v == nil || s.isHidden(kind, key) {
			return errs.New(errs.NotFound, "no record %s/%s", kind, key)
		}
		value = append([]byte{}, v...)
		return nil
	})
	return value, err
}

// List returns all records of a kind, sorted by key.
func (s *Store) List(ctx context.Context, kind string) (out []brig.Record, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	err = s.db.View(func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte(kind))
		if b == nil {
			return nil
		}
		return b.ForEach(func(k, v []byte) error {
			if s.isHidden(kind, string(k)) {
				return nil
			}
			out = append(out, brig.Record{Kind: kind, Key: string(k), Value: append([]byte{}, v...)})
			return nil
		})
	})
	return out, err
}

// Close waits for running transactions and closes the file.
func (s *Store) Close() error { return s.db.Close() }
