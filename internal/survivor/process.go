package survivor

import (
	"io"
	"os"
)

// maxLog bounds the log file, in bytes. It begins anew when it is full: little is ever written to it.
const maxLog = 1 << 20

// BoundedLog writes to a file opened with O_APPEND.
func BoundedLog(f *os.File) io.Writer { return boundedLog{f} }

type boundedLog struct{ f *os.File }

func (b boundedLog) Write(p []byte) (int, error) {
	if st, err := b.f.Stat(); err == nil && st.Mode().IsRegular() && st.Size() > maxLog {
		_ = b.f.Truncate(0) // if it fails the disk is full, or worse
	}
	return b.f.Write(p)
}
