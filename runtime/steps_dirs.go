package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/fault"
)

// dirRecord is the value of a directory's record.
type dirRecord struct {
	ID      string // as the build names it
	Dataset brig.RID
	Created time.Time
	Used    time.Time
	Count   int
}

// A dirEntry is one directory that RUN --mount=type=cache shares.
type dirEntry struct {
	rec       dirRecord
	users     int
	exclusive bool   // the one user wants no others
	path      string // "" as long as nobody has mounted it since the start
}

// A dirUse is one use of a directory by a session.
type dirUse struct{ release func() }

func dirKey(id string) string { return brig.DigestOf([]byte(id)).Hex() }

func (s *Steps) loadDirs(ctx context.Context) error {
	records, err := s.i.Records.List(ctx, kindCacheDir)
	if err != nil {
		return errs.Wrap(err, "load directories of builds")
	}
	for _, r := range records {
		var rec dirRecord
		if err := json.Unmarshal(r.Value, &rec); err != nil {
			return errs.Wrap(err, "load directory %s", r.Key)
		}
		s.dirs[r.Key] = &dirEntry{rec: rec}
	}
	return nil
}

// CacheVolumes lists the volumes of directories that builds share, for the sweep.
func (s *Steps) CacheVolumes() (out []brig.RID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.dirs {
		out = append(out, e.rec.Dataset)
	}
	slices.Sort(out)
	return out
}

// Dir is a directory that stays between builds. It waits for whoever uses it alone, and with exclusive for all who use it; nobody else then uses it
// until release, which the end of the session calls too. One that isn't there is made, and filled before anybody else comes to use it; where that
// fails nothing is left of it.
//
// The directory is recorded when its first user releases it, so that a crash before leaves none that only looks as if it had been filled.
func (x *StepSession) Dir(ctx context.Context, id string, exclusive bool, fill func(dir string) error) (path string, release func(), err error) {
	s, key := x.s, dirKey(id)
	e, fresh, err := s.claim(ctx, id, exclusive)
	if err != nil {
		return "", nil, err
	}
	path, err = s.volumes.MakeVolume(ctx, e.rec.Dataset, 0)
	if err = errs.Wrap(err, "make the cache directory %q", id); err == nil && fresh {
		fault.Point("cachedir.made")
		err = fill(path)
	}
	if err != nil {
		if fresh {
			err = errors.Join(err, errs.Wrap(s.volumes.RemoveVolume(context.WithoutCancel(ctx), e.rec.Dataset), "remove the cache directory %q that could not be filled", id))
		}
		s.letGo(key, e, false)
		return "", nil, err
	}
	u := &dirUse{}
	u.release = sync.OnceFunc(func() {
		x.mu.Lock()
		delete(x.dirs, u)
		x.mu.Unlock()
		s.letGo(key, e, true)
	})
	s.mu.Lock()
	e.path, e.exclusive = path, exclusive
	s.free()
	s.mu.Unlock()
	x.mu.Lock()
	x.dirs[u] = true
	x.mu.Unlock()
	return path, u.release, nil
}

// claim waits for a directory, or begins one. Until it has been made and filled its claimer is its only user.
func (s *Steps) claim(ctx context.Context, id string, exclusive bool) (e *dirEntry, fresh bool, err error) {
	key := dirKey(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		e = s.dirs[key]
		if e == nil {
			e = &dirEntry{rec: dirRecord{ID: id, Dataset: brig.NewRID(), Created: time.Now().UTC()}, users: 1, exclusive: true}
			s.dirs[key] = e
			return e, true, nil
		}
		if e.users == 0 || !e.exclusive && !exclusive {
			e.users++
			e.exclusive = exclusive
			return e, false, nil
		}
		c := s.changed
		s.mu.Unlock()
		select {
		case <-c:
		case <-ctx.Done():
		}
		s.mu.Lock()
		if err := ctx.Err(); err != nil {
			return nil, false, errs.Wrap(err, "wait for the cache directory %q", id)
		}
	}
}

// free wakes all that wait for a directory. mu is held.
func (s *Steps) free() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// letGo ends a use. A directory that could not be made, and never was before, is forgotten.
func (s *Steps) letGo(key string, e *dirEntry, made bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e.users--
	e.exclusive = e.exclusive && e.users > 0
	if made {
		e.rec.Used = time.Now().UTC()
		e.rec.Count++
		s.stale[staleKey{kindCacheDir, key}] = true
		s.stir()
	} else if e.path == "" && e.rec.Count == 0 {
		delete(s.dirs, key)
	}
	s.free()
}
