package main

import (
	"context"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/spf13/cobra"

	"github.com/brigd/brig/internal/host"
)

// A compression is gzip, zstd, xz or none, for flags.
type compression string

// String, Set and Type implement pflag.Value.
func (c *compression) String() string { return string(*c) }

// Set takes one of the four.
func (c *compression) Set(s string) error {
	switch s {
	case "none", "gzip", "zstd", "xz":
		*c = compression(s)
		return nil
	}
	return fmt.Errorf("want none, gzip, zstd or xz")
}

// Type names the flag's value in the help.
func (c *compression) Type() string { return "KIND" }

func (c *compression) flag(cmd *cobra.Command, name string) {
	*c = "none"
	cmd.Flags().Var(c, name, "compress with gzip, zstd or xz, or none; an ACI's ID is that of the uncompressed bytes all the same")
}

// over gives r's bytes compressed. The same bytes always come out the same, by one version of brig. The caller closes what it gets,
// which waits for the goroutine behind it.
func (c compression) over(ctx context.Context, r io.Reader) io.ReadCloser {
	if c == "none" || c == "" {
		return io.NopCloser(r)
	}
	pr, pw := io.Pipe()
	p := &compressing{pr, make(chan struct{})}
	go func() {
		defer close(p.done)
		pw.CloseWithError(c.copy(ctx, pw, r))
	}()
	return p
}

func (c compression) copy(ctx context.Context, w io.Writer, r io.Reader) error {
	if c == "xz" {
		return host.Command{Argv: []string{"xz", "--compress", "--stdout"}, Stdin: r}.Stream(ctx, w)
	}
	var z io.WriteCloser = gzip.NewWriter(w)
	if c == "zstd" {
		var err error
		if z, err = zstd.NewWriter(w, zstd.WithEncoderConcurrency(1)); err != nil {
			return err
		}
	}
	if _, err := io.Copy(z, r); err != nil {
		z.Close()
		return err
	}
	return z.Close()
}

// compressing is what is read, and the end of the goroutine that writes it.
type compressing struct {
	*io.PipeReader
	done chan struct{}
}

// Close implements io.Closer.
func (c *compressing) Close() error {
	c.PipeReader.Close()
	<-c.done
	return nil
}
