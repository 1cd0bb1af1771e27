package convert

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"context"
	"errors"
	"io"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/host"
)

const (
	// igzipFrom is the compressed size in bytes from which starting a process costs less than it saves.
	igzipFrom = 256 << 10
	// maxWindow bounds what a zstd stream can make its reader allocate, in bytes: the zstd program's own bound.
	maxWindow = 128 << 20
	// xzMemory bounds what an xz stream can make its reader allocate: four times what xz -9 needs.
	xzMemory = "256MiB"
)

// Decompress returns the uncompressed bytes of r: gzip, zstd, bzip2, xz or none of them, as its first bytes say. The media type
// is not believed, since dockerd doesn't believe it either and registries hold layers that are mislabelled; only one that says
// that the layer is encrypted is refused (NotImplemented). A broken stream is Invalid. r must give up by itself when ctx ends;
// closing what is returned does not close r.
func (c *Converter) Decompress(ctx context.Context, r io.Reader, mediaType string) (io.ReadCloser, error) {
	if strings.HasSuffix(mediaType, "+encrypted") {
		return nil, errs.New(errs.NotImplemented, "layers of type %s can't be read: they are encrypted", mediaType)
	}
	src := &remember{r: r}
	b := bufio.NewReaderSize(src, igzipFrom)
	head, err := b.Peek(6)
	if err != nil && err != io.EOF {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}): // RFC 1952, section 2.3.1
		return c.gunzip(ctx, src, b)
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}), isSkippable(head): // RFC 8878, section 3.1
		z, err := zstd.NewReader(b, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		return &stream{Reader: z, src: src, name: "zstd", close: z.Close}, nil
	case bytes.HasPrefix(head, []byte("BZh")):
		return &stream{Reader: bzip2.NewReader(b), src: src, name: "bzip2"}, nil
	case bytes.HasPrefix(head, []byte("\xfd7zXZ\x00")):
		if c.xz == "" {
			return nil, errs.New(errs.NotImplemented, "the archive is compressed with xz, which is not installed")
		}
		return pipe(ctx, b, "xz", c.xz, "--decompress", "--stdout", "--memlimit-decompress="+xzMemory), nil
	}
	return io.NopCloser(b), nil
}

// isSkippable reports whether a zstd stream begins with a skippable frame (RFC 8878, section 3.1.2), as zstd:chunked's may.
func isSkippable(head []byte) bool {
	return len(head) >= 4 && head[0]&0xf0 == 0x50 && bytes.Equal(head[1:4], []byte{0x2a, 0x4d, 0x18})
}

// gunzip uses igzip for what is large: it is some three times as fast as the library. Peeking waits for that many bytes.
func (c *Converter) gunzip(ctx context.Context, src *remember, b *bufio.Reader) (io.ReadCloser, error) {
	if c.igzip != "" {
		if _, err := b.Peek(igzipFrom); err == nil {
			return pipe(ctx, b, "gzip", c.igzip, "--decompress", "--stdout"), nil
		}
	}
	z, err := gzip.NewReader(b)
	if failed := src.failure(); failed != nil {
		return nil, failed
	}
	if err != nil {
		return nil, errs.New(errs.Invalid, "gzip: %w", err)
	}
	return &stream{Reader: z, src: src, name: "gzip"}, nil
}

// A stream gives a decompressor's errors the kind Invalid, unless they are the source's own.
type stream struct {
	io.Reader
	src   *remember // where the compressed bytes come from
	name  string
	close func()
}

// Read implements io.Reader.
func (s *stream) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if err == nil || err == io.EOF {
		return n, err
	}
	if failed := s.src.failure(); failed != nil {
		return n, failed
	}
	return n, errs.New(errs.Invalid, "%s: %w", s.name, err)
}

// Close implements io.Closer.
func (s *stream) Close() error {
	if s.close != nil {
		s.close()
	}
	return nil
}

// A piped decompressor is a subprocess; its goroutine ends with it, and Close waits for both.
type piped struct {
	*io.PipeReader
	cancel context.CancelFunc
	done   chan struct{}
}

// pipe runs argv between r and what it returns.
func pipe(ctx context.Context, r io.Reader, name string, argv ...string) io.ReadCloser {
	ctx, cancel := context.WithCancel(ctx)
	pr, pw := io.Pipe()
	p := &piped{pr, cancel, make(chan struct{})}
	src := &remember{r: r}
	go func() {
		defer close(p.done)
		err := host.Command{Argv: argv, Stdin: src}.Stream(ctx, pw)
		var failed *host.Error
		switch {
		case src.failure() != nil: // the source's failure is the reason, whatever the program says
			err = src.failure()
		case ctx.Err() != nil && err != nil:
			err = ctx.Err()
		case errors.As(err, &failed) && failed.Code > 0:
			err = errs.New(errs.Invalid, "%s: %w", name, err)
		}
		pw.CloseWithError(err)
	}()
	return p
}

// Close ends the program and waits for it.
func (p *piped) Close() error {
	p.cancel()
	p.PipeReader.Close()
	<-p.done
	return nil
}

// remember keeps the source's own error.
type remember struct {
	r   io.Reader
	mu  sync.Mutex
	err error
}

// Read implements io.Reader.
func (r *remember) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if err != nil && err != io.EOF {
		r.mu.Lock()
		r.err = err
		r.mu.Unlock()
	}
	return n, err
}

func (r *remember) failure() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}
