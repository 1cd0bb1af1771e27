package jailer

import (
	"bytes"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// sealed keeps a program in memory, where nobody can change it (memfd_create(2)). crun never lets a container get hold of its own file:
// where it isn't run from such a copy, it makes one each time and executes itself again, which is a third of its time.
type sealed struct {
	path string // "": nothing is kept

	mu   sync.Mutex
	file *os.File    // the copy
	of   os.FileInfo // what was copied
}

// open returns a new descriptor of the copy, made again if the program was replaced, or nil where there can be none: then the program
// is run by its path.
func (s *sealed) open() *os.File {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.path == "" {
		return nil
	}
	now, err := os.Stat(s.path)
	if err != nil {
		return nil
	}
	if s.file == nil || !os.SameFile(now, s.of) || !now.ModTime().Equal(s.of.ModTime()) || now.Size() != s.of.Size() {
		if s.file != nil {
			s.file.Close()
			s.file = nil
		}
		if s.file, err = seal(s.path); err != nil {
			s.file = nil
			return nil
		}
		s.of = now
	}
	fd, err := unix.FcntlInt(s.file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	return os.NewFile(uintptr(fd), s.path)
}

// seal copies a program; a script isn't one, for its interpreter could not read it.
func seal(path string) (_ *os.File, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(b, []byte("\x7fELF")) {
		return nil, os.ErrInvalid
	}
	fd, err := unix.MemfdCreate("brig-runtime", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), path)
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	if _, err = io.Copy(f, bytes.NewReader(b)); err != nil {
		return nil, err
	}
	if err = f.Chmod(0o500); err != nil { // a kernel may give out copies that can't be executed: vm.memfd_noexec
		return nil, err
	}
	_, err = unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE)
	return f, err
}
