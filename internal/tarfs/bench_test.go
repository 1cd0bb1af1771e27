package tarfs

import (
	"archive/tar"
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// manyFiles writes an archive of about n files the way a large image has them: directories of up to 60 files, sizes from nothing
// to 64 KiB with a few of 1 MiB, links and attributes here and there.
func manyFiles(w io.Writer, n int) error {
	tw := tar.NewWriter(w)
	r := rand.New(rand.NewPCG(1, 2))
	body := make([]byte, 1<<20)
	for i := range body {
		body[i] = byte(r.Uint32())
	}
	last := ""
	for made := 0; made < n; {
		dir := fmt.Sprintf("usr/share/p%d/d%d", r.IntN(100), made)
		h := &tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755, ModTime: epoch}
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
		for range 1 + r.IntN(60) {
			h := &tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("%s/f%d", dir, made), Mode: 0o644, ModTime: epoch}
			switch k := r.IntN(200); {
			case k == 0:
				h.Size = 1 << 20
			case k < 10 && last != "":
				h.Typeflag, h.Linkname = tar.TypeSymlink, last
			case k < 12 && last != "":
				h.Typeflag, h.Linkname = tar.TypeLink, last
			default:
				h.Size = int64(r.IntN(1 << (4 + r.IntN(13))))
				last = h.Name
			}
			if err := tw.WriteHeader(h); err != nil {
				return err
			}
			if _, err := tw.Write(body[:h.Size]); err != nil {
				return err
			}
			made++
		}
	}
	return tw.Close()
}

func cpu() float64 {
	var u unix.Rusage
	unix.Getrusage(unix.RUSAGE_SELF, &u)
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

// BenchmarkExtract extracts an archive of 35,000 files, and those plain archives that TARFS_BENCH names (separated by colons),
// to the directory for temporary files. It reports processor seconds beside the time.
func BenchmarkExtract(b *testing.B) {
	made := filepath.Join(b.TempDir(), "made.tar")
	f, err := os.Create(made)
	if err != nil {
		b.Fatal(err)
	}
	w := bufio.NewWriter(f)
	if err := manyFiles(w, 35_000); err != nil || w.Flush() != nil || f.Close() != nil {
		b.Fatal(err)
	}
	for _, name := range append([]string{made}, strings.FieldsFunc(os.Getenv("TARFS_BENCH"), func(r rune) bool { return r == ':' })...) {
		b.Run(strings.TrimSuffix(filepath.Base(name), ".tar"), func(b *testing.B) {
			var spent float64
			for b.Loop() {
				b.StopTimer()
				dir, err := os.MkdirTemp("", "tarfs-bench")
				if err != nil {
					b.Fatal(err)
				}
				f, err := os.Open(name)
				if err != nil {
					b.Fatal(err)
				}
				unix.Sync()
				at := cpu()
				b.StartTimer()
				st, err := Extract(context.Background(), dir, f, Options{Whiteouts: Apply, Owner: owner()})
				b.StopTimer()
				f.Close()
				if err != nil {
					b.Fatal(err)
				}
				spent += cpu() - at
				b.SetBytes(st.Bytes)
				os.RemoveAll(dir)
				b.StartTimer()
			}
			b.ReportMetric(spent/float64(b.N), "cpu-s/op")
		})
	}
}
