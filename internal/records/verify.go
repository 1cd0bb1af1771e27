package records

import (
	"context"
	"fmt"

	bolt "go.etcd.io/bbolt"
)

// maxProblems bounds what Verify lists.
const maxProblems = 20

// Verify has bbolt check its pages: that each is reachable once or free, and that keys are in order. It returns what is wrong, at most 20 things.
// It reads the whole file.
func (s *Store) Verify(ctx context.Context) (problems []string, err error) {
	err = guard(func() error {
		return s.db.View(func(tx *bolt.Tx) error {
			for e := range tx.Check() {
				if len(problems) < maxProblems {
					problems = append(problems, e.Error())
				}
			}
			return ctx.Err()
		})
	})
	return problems, err
}

// VerifyFile checks a database that no brigd has open, without changing it. An error says why it can't be read at all.
func VerifyFile(ctx context.Context, path string) (problems []string, err error) {
	if err := check(path); err != nil {
		return nil, explain(path, err)
	}
	db, err := open(path, true)
	if err != nil {
		return nil, explain(path, err)
	}
	s := &Store{db: db}
	problems, err = s.Verify(ctx)
	if cerr := s.Close(); err == nil && cerr != nil {
		err = fmt.Errorf("close records %s: %w", path, cerr)
	}
	return problems, err
}
