package build

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// A mount is one --mount of a RUN.
type mount struct {
	*instructions.Mount
	target string
	from   *place // of a bind, and what a new cache begins with; nil: nothing
	rel    string // the source in from
	key    string // what of it goes into the step's key
}

// mounts reads a RUN's mounts, and waits for the stages that they come from.
func (s *stage) mounts(ctx context.Context, x *instructions.RunCommand) (list []mount, err error) {
	for _, im := range instructions.GetMounts(x) {
		m := mount{Mount: im, target: im.Target}
		if m.Type == instructions.MountTypeSSH {
			return nil, errs.New(errs.Invalid, "RUN --mount=type=ssh is not supported: this build has no agent to forward")
		}
		if m.Type == instructions.MountTypeSecret {
			m.secret()
		}
		if m.target == "" && (m.Type != instructions.MountTypeSecret || m.Env == nil) {
			return nil, errs.New(errs.Invalid, "invalid mount target %q: it is required", m.Target)
		}
		if m.target != "" && !path.IsAbs(m.target) {
			m.target = path.Join("/", s.ed.Config.WorkingDir, m.target)
		}
		if m.target != "" && path.Clean(m.target) == "/" {
			return nil, errs.New(errs.Invalid, "invalid mount target %q", m.Target)
		}
		if err := s.source(ctx, &m); err != nil {
			return nil, err
		}
		list = append(list, m)
	}
	return list, nil
}

// secret fills in a secret's ID and place.
func (m *mount) secret() {
	if m.CacheID == "" {
		m.CacheID = m.Source
	}
	if m.CacheID == "" {
		m.CacheID = path.Base(m.target)
	}
	if m.target == "" && m.Env == nil {
		m.target = "/run/secrets/" + path.Base(m.CacheID)
	}
	if m.Env != nil && *m.Env == "" {
		name := strings.ToUpper(m.CacheID)
		m.Env = &name
	}
}

// source finds where a mount's content comes from, and what of it counts.
func (s *stage) source(ctx context.Context, m *mount) (err error) {
	m.key = strings.Join([]string{"mount", string(m.Type), m.target, m.Source, m.CacheID, string(m.CacheSharing), strconv.FormatBool(m.ReadOnly),
		strconv.FormatInt(m.SizeLimit, 10)}, "\x00")
	if m.Type != instructions.MountTypeBind && (m.Type != instructions.MountTypeCache || m.From == "") {
		return nil
	}
	m.from = s.context()
	if m.From != "" {
		if m.from, err = s.other(ctx, m.From); err != nil {
			return errs.Wrap(err, "invalid from value %s", m.From)
		}
	}
	if m.rel, err = m.from.find(m.Source); errors.Is(err, fs.ErrNotExist) {
		return errs.Wrap(notThere(m.Source), "RUN --mount failed")
	}
	if err != nil {
		return errs.Wrap(err, "RUN --mount failed")
	}
	if m.Type == instructions.MountTypeCache {
		return nil
	}
	if m.From != "" {
		m.key += "\x00" + string(m.from.chain)
		return nil
	}
	src, err := m.from.hashed(ctx, m.rel, nil)
	m.key += "\x00" + src
	return err
}

// mount puts the mounts into a run. done must be called when it has ended.
func (s *stage) mount(ctx context.Context, list []mount, r *brig.StepRun) (done func(), err error) {
	var undo []func()
	done = func() {
		for i := len(undo) - 1; i >= 0; i-- {
			undo[i]()
		}
	}
	caches, leave, err := s.cacheDirs(ctx, list)
	if err != nil {
		return done, err
	}
	undo = append(undo, leave)
	for n, m := range list {
		bm := brig.Mount{Type: brig.MountBind, Target: m.target, ReadOnly: m.ReadOnly}
		switch m.Type {
		case instructions.MountTypeTmpfs:
			bm.Type, bm.TmpfsSize = brig.MountTmpfs, m.SizeLimit
		case instructions.MountTypeSecret:
			if err := s.reveal(m, r); err != nil {
				return done, err
			}
			continue
		case instructions.MountTypeCache:
			bm.Source = caches[n]
		case instructions.MountTypeBind:
			src, drop, err := s.bind(ctx, m)
			if err != nil {
				return done, err
			}
			undo = append(undo, drop)
			bm.Source = src
		}
		r.Spec.Mounts = append(r.Spec.Mounts, bm)
	}
	return done, nil
}

// reveal gives the process a secret, as a file or a variable.
func (s *stage) reveal(m mount, r *brig.StepRun) error {
	data, ok := s.req.Secrets[m.CacheID]
	if !ok {
		if m.Required {
			return errs.New(errs.NotFound, "secret %s: not found", m.CacheID)
		}
		return nil
	}
	if m.Env != nil {
		r.Spec.Env = append(r.Spec.Env, *m.Env+"="+string(data))
	}
	if m.target == "" {
		return nil
	}
	r.Secrets = append(r.Secrets, brig.Secret{Target: m.target, Data: data, Mode: uint32(number(m.Mode, 0o400)), UID: int(number(m.UID, 0)), GID: int(number(m.GID, 0))})
	return nil
}

func number(n *uint64, def uint64) uint64 {
	if n == nil {
		return def
	}
	return *n
}

// cacheDirs takes a run's cache directories for its time; they are by the places of their mounts in list. Those that a run may have to wait for are
// taken in the order of their names, so that two runs don't wait for each other, and one that it mounts twice is taken once.
func (s *stage) cacheDirs(ctx context.Context, list []mount) (at map[int]string, leave func(), err error) {
	at = map[int]string{}
	var undo []func()
	leave = func() {
		for _, f := range slices.Backward(undo) {
			f()
		}
	}
	shared := map[string][]int{} // by ID, the places in list
	for n, m := range list {
		if m.Type != instructions.MountTypeCache {
			continue
		}
		if m.CacheSharing != instructions.MountSharingPrivate {
			shared[cacheID(&m)] = append(shared[cacheID(&m)], n)
			continue
		}
		id, free := s.caches.own(cacheID(&m))
		undo = append(undo, free)
		dir, free, err := s.s.Dir(ctx, id, false, func(dir string) error { return s.furnish(ctx, m, dir) })
		if err != nil {
			leave()
			return nil, nil, err
		}
		undo, at[n] = append(undo, free), dir
	}
	for _, id := range slices.Sorted(maps.Keys(shared)) {
		first, alone := list[shared[id][0]], false
		for _, n := range shared[id] {
			alone = alone || list[n].CacheSharing == instructions.MountSharingLocked
		}
		dir, free, err := s.s.Dir(ctx, id, alone, func(dir string) error { return s.furnish(ctx, first, dir) })
		if err != nil {
			leave()
			return nil, nil, err
		}
		undo = append(undo, free)
		for _, n := range shared[id] {
			at[n] = dir
		}
	}
	return at, leave, nil
}

func cacheID(m *mount) string {
	if m.CacheID != "" {
		return m.CacheID
	}
	return path.Clean(m.target)
}

// furnish gives a new cache directory its owner, mode and first content.
func (s *stage) furnish(ctx context.Context, m mount, dir string) error {
	if m.from != nil {
		if err := m.from.copyTo(ctx, m.rel, dir); err != nil {
			return err
		}
	}
	if err := os.Lchown(dir, int(number(m.UID, 0)), int(number(m.GID, 0))); err != nil {
		return err
	}
	mode := number(m.Mode, 0o755)
	return os.Chmod(dir, fs.FileMode(mode&0o777)|special(mode))
}

// special makes Go's bits of the setuid, setgid and sticky bits.
func special(mode uint64) (m fs.FileMode) {
	for bit, x := range map[uint64]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if mode&bit != 0 {
			m |= x
		}
	}
	return m
}

// bind finds a directory or file on the host that shows what a bind shall show: the source itself where it can't be written to, else a copy.
func (s *stage) bind(ctx context.Context, m mount) (at string, drop func(), err error) {
	if m.ReadOnly && m.from.ignore == nil {
		return filepath.Join(m.from.dir, filepath.FromSlash(m.rel)), func() {}, nil
	}
	t, err := s.s.Clone(ctx, "")
	if err != nil {
		return "", nil, err
	}
	drop = func() { s.s.Discard(context.WithoutCancel(ctx), t) }
	at = filepath.Join(t.Path, "src")
	fi, err := stat(m.from.dir, m.rel)
	if err == nil && fi.IsDir() {
		if err = os.Mkdir(at, 0o755); err == nil {
			err = m.from.copyTo(ctx, m.rel, at)
		}
	} else if err == nil {
		err = m.from.copyFileTo(ctx, m.rel, t.Path, "src")
	}
	if err != nil {
		drop()
		return "", nil, err
	}
	return at, drop, nil
}
