package dockerapi

import (
	"encoding/binary"
	"io"
	"net"
	"os"
	"syscall"
)

// The streams' numbers in frames.
const (
	streamStdout byte = 1
	streamStderr byte = 2
)

// fileConn and syscallConn are what TCP and Unix connections have beyond net.Conn.
type (
	fileConn    interface{ File() (*os.File, error) }
	syscallConn interface {
		SyscallConn() (syscall.RawConn, error)
	}
)

// writeFrame writes b with the header that Docker's clients expect without a TTY: stream, three zeros, length big-endian
// (API reference, "Stream format"). It returns how much of b went out.
func writeFrame(w io.Writer, stream byte, b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	head := [8]byte{stream}
	binary.BigEndian.PutUint32(head[4:], uint32(len(b)))
	bufs := net.Buffers{head[:], b} // one writev(2) on a socket
	n, err := bufs.WriteTo(w)
	return max(0, int(n)-len(head)), err
}
