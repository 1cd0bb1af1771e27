package metadata

import (
	"errors"
	"os"
	"sync"
)

// maxAccess bounds each of the two files of the access log, in bytes.
const maxAccess = 4 << 20

// access is the access log. It is written to two files in turn, since this process can neither make nor rename any: what is full
// becomes the past, and the other one begins anew. All that the last maxAccess bytes say is there.
type access struct {
	mu    sync.Mutex
	files [2]*os.File
	now   int // of files
	size  int64
}

// openAccess opens path and path.1; the one that was written last goes on.
func openAccess(path string) (*access, error) {
	a := &access{}
	var newest int64
	for i, name := range []string{path, path + ".1"} {
		f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			return nil, errors.Join(err, a.Close())
		}
		a.files[i] = f
		st, err := f.Stat()
		if err != nil {
			return nil, errors.Join(err, a.Close())
		}
		if t := st.ModTime().UnixNano(); st.Size() > 0 && t >= newest {
			newest, a.now, a.size = t, i, st.Size()
		}
	}
	return a, nil
}

// Write implements io.Writer. It gets whole lines.
func (a *access) Write(b []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.size >= maxAccess {
		next := 1 - a.now
		if err := a.files[next].Truncate(0); err != nil {
			return 0, err
		}
		a.now, a.size = next, 0
	}
	n, err := a.files[a.now].Write(b)
	a.size += int64(n)
	return n, err
}

// Close closes both files.
func (a *access) Close() error {
	var err error
	for _, f := range a.files {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
	}
	return err
}
