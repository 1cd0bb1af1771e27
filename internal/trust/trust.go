// Package trust keeps the OpenPGP keys that may sign App Container Images, and verifies detached signatures by them.
//
// A key is trusted for a prefix of ACI names, which matches whole components (example.com/app covers example.com/app and
// example.com/app/x, not example.com/apple), or as a root key for all names. On disk each is one armoured file, named by the
// fingerprint of its primary key:
//
//	root.d/<fingerprint>
//	prefix.d/<prefix, "/" written ",">/<fingerprint>
//
// Files that others than root (or this process's user) can write to are refused, since they decide what is believed.
package trust

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/appc/spec/schema/types"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// A Store is a directory of trusted keys. It reads the files at each use, so that keys can be put there by other means too.
type Store struct {
	dir string
	now func() time.Time
	mu  sync.Mutex // held while files change
}

// Open returns the store in dir, which is made with the first key.
func Open(dir string) *Store { return &Store{dir: dir, now: time.Now} }

var fingerprintRE = regexp.MustCompile(`^[0-9a-f]{40}([0-9a-f]{24})?$`)

// place is the directory of a prefix's keys; "" means the root keys. Invalid: it is no prefix of ACI names.
func (s *Store) place(prefix string) (string, error) {
	if prefix == "" {
		return filepath.Join(s.dir, "root.d"), nil
	}
	if _, err := types.NewACIdentifier(prefix); err != nil {
		return "", errs.New(errs.Invalid, "%q is no prefix of ACI names: %w", prefix, err)
	}
	return filepath.Join(s.dir, "prefix.d", strings.ReplaceAll(prefix, "/", ",")), nil
}

// Trust keeps all keys of a keyring, armoured or not, for a prefix; "" makes them root keys. A key that is there already is replaced.
// Invalid: it is no keyring, or one of its keys can't sign now; then none is kept.
func (s *Store) Trust(_ context.Context, prefix string, ring []byte) ([]brig.TrustedKey, error) {
	dir, err := s.place(prefix)
	if err != nil {
		return nil, err
	}
	keys, err := s.Read(ring)
	if err != nil {
		return nil, err
	}
	for i := range keys {
		keys[i].Prefix = prefix
		if keys[i].Problem != "" {
			return nil, errs.New(errs.Invalid, "the key %s can't be trusted: %s", keys[i].Fingerprint, keys[i].Problem)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, errs.Wrap(err, "make the keystore")
	}
	for _, k := range keys {
		if err := replace(filepath.Join(dir, k.Fingerprint), []byte(k.Armored)); err != nil {
			return nil, errs.Wrap(err, "keep the key %s", k.Fingerprint)
		}
	}
	return keys, nil
}

// replace writes a file that is there whole or not at all, also after a loss of power.
func replace(path string, b []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// Untrust removes a key, named by its fingerprint, from a prefix ("": from the root keys). NotFound: it isn't there.
func (s *Store) Untrust(_ context.Context, prefix, fingerprint string) error {
	dir, err := s.place(prefix)
	if err != nil {
		return err
	}
	fp := strings.ToLower(strings.ReplaceAll(fingerprint, " ", ""))
	if !fingerprintRE.MatchString(fp) {
		return errs.New(errs.Invalid, "%q is no fingerprint: want its 40 (or 64) hex digits", fingerprint)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	err = os.Remove(filepath.Join(dir, fp))
	if errors.Is(err, fs.ErrNotExist) {
		return errs.New(errs.NotFound, "the key %s is not trusted for %s", fp, describe(prefix))
	}
	if err != nil {
		return errs.Wrap(err, "remove the key %s", fp)
	}
	if err := syncDir(dir); err != nil {
		return err
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, syscall.ENOTEMPTY) && !errors.Is(err, syscall.EEXIST) {
		return errs.Wrap(err, "remove the empty %s", dir)
	}
	return nil
}

func describe(prefix string) string {
	if prefix == "" {
		return "all names"
	}
	return prefix
}

// List returns all trusted keys, root keys first, then by prefix and fingerprint. A file that may not be believed is an error.
func (s *Store) List(context.Context) ([]brig.TrustedKey, error) {
	all, err := s.load()
	if err != nil {
		return nil, err
	}
	out := make([]brig.TrustedKey, len(all))
	for i, k := range all {
		out[i] = k.TrustedKey
	}
	return out, nil
}

// load reads every file.
func (s *Store) load() ([]key, error) {
	keys, err := s.loadDir("", filepath.Join(s.dir, "root.d"))
	if err != nil {
		return nil, err
	}
	top := filepath.Join(s.dir, "prefix.d")
	dirs, err := os.ReadDir(top)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, errs.Wrap(err, "read the keystore")
	}
	for _, d := range dirs {
		prefix := strings.ReplaceAll(d.Name(), ",", "/")
		if _, err := s.place(prefix); err != nil {
			return nil, errs.New(errs.Internal, "the keystore holds %s, which is no prefix of ACI names", filepath.Join(top, d.Name()))
		}
		some, err := s.loadDir(prefix, filepath.Join(top, d.Name()))
		if err != nil {
			return nil, err
		}
		keys = append(keys, some...)
	}
	slices.SortStableFunc(keys, func(a, b key) int { return strings.Compare(a.Prefix, b.Prefix) })
	return keys, nil
}

func (s *Store) loadDir(prefix, dir string) (keys []key, err error) {
	files, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, errs.Wrap(err, "read the keystore")
	}
	if err := safe(dir); err != nil {
		return nil, err
	}
	for _, f := range files {
		if strings.HasPrefix(f.Name(), ".") {
			continue // being written
		}
		k, err := s.loadFile(filepath.Join(dir, f.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed since
		}
		if err != nil {
			return nil, err
		}
		k.Prefix = prefix
		keys = append(keys, *k)
	}
	return keys, nil
}

// loadFile reads one key, which must be the one that the file's name says.
func (s *Store) loadFile(path string) (*key, error) {
	if err := safe(path); err != nil {
		return nil, err
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	keys, err := s.parse(b)
	if err != nil {
		return nil, errs.As(errs.Internal, errs.Wrap(err, "keystore: %s", path))
	}
	if len(keys) != 1 || keys[0].Fingerprint != filepath.Base(path) {
		return nil, errs.New(errs.Internal, "keystore: %s doesn't hold the key that its name says, or others too", path)
	}
	return &keys[0], nil
}

// safe wants a file or directory that root or this process's user owns, and nobody else can write to.
func safe(path string) error {
	st, err := os.Lstat(path)
	if err != nil {
		return err
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	switch {
	case !st.Mode().IsRegular() && !st.IsDir():
		return errs.New(errs.Internal, "keystore: %s is no regular file", path)
	case !ok || sys.Uid != 0 && int(sys.Uid) != os.Geteuid():
		return errs.New(errs.Internal, "keystore: %s belongs to somebody else than root, so it is not believed", path)
	case st.Mode().Perm()&0o022 != 0:
		return errs.New(errs.Internal, "keystore: others can write to %s, so it is not believed", path)
	}
	return nil
}

// covers reports whether a prefix matches an ACI's name: all of its components.
func covers(prefix, name string) bool {
	return prefix == "" || name == prefix || strings.HasPrefix(name, prefix+"/")
}
