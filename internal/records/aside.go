package records

import (
	"context"
	"net/url"
	"os"
	"path/filepath"

	bolt "go.etcd.io/bbolt"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// Hide keeps a record from Get and List until it is put or deleted. It stays in the file, and its key stays taken.
func (s *Store) Hide(kind, key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hidden[[2]string{kind, key}] = true
}

func (s *Store) isHidden(kind, key string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.hidden[[2]string{kind, key}]
}

// shown forgets that records were hidden: they have been replaced or deleted.
func (s *Store) shown(lists ...[]brig.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range lists {
		for _, r := range l {
			delete(s.hidden, [2]string{r.Kind, r.Key})
		}
	}
}

// SetAside moves a record's value to the file <dir>/<kind>-<key>, the key escaped as in a URL's path, and deletes the record and also the
// others. The file is there before the record is gone.
func (s *Store) SetAside(ctx context.Context, dir, kind, key string, also []brig.Record) error {
	var value []byte
	err := s.db.View(func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte(kind))
		if b == nil || b.Get([]byte(key)) == nil {
			return errs.New(errs.NotFound, "no record %s/%s", kind, key)
		}
		value = append([]byte{}, b.Get([]byte(key))...)
		return nil
	})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return errs.Wrap(err, "set record %s/%s aside", kind, key)
	}
	if err := writeSynced(filepath.Join(dir, kind+"-"+url.PathEscape(key)), value); err != nil {
		return errs.Wrap(err, "set record %s/%s aside", kind, key)
	}
	return s.Put(ctx, nil, append([]brig.Record{{Kind: kind, Key: key}}, also...))
}

func writeSynced(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err = f.Write(b); err == nil {
		err = f.Sync()
	}
	return err
}
