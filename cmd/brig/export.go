package main

import (
	"archive/tar"
	"context"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

// exporting is one run of brig image export.
type exporting struct {
	layered     bool
	incremental bool
	compress    compression
}

func imageExport(host *string) *cobra.Command {
	var p exporting
	cmd := &cobra.Command{
		Use: "export IMAGE FILE.aci|-|DIR", Args: cobra.ExactArgs(2),
		Short: "Write an image as a flat ACI and print its ID; FILE - is standard output",
		Long: "Write an image as one flat ACI, and print its ID. With --layered write one ACI for each layer into the directory DIR, which is\n" +
			"made if it is missing, and print their IDs and files, from the lowest up: the order in which they can be imported.\n" +
			"With --incremental write the ACI that an image came or was built as, which has what it adds to its dependencies.",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := dial(*host)
			if err != nil {
				return err
			}
			what := "/aci"
			switch {
			case p.layered && p.incremental:
				return errors.New("--layered and --incremental exclude each other")
			case p.layered:
				what = "/acis"
			case p.incremental:
				what = "/aci/incremental"
			}
			body, err := c.get(cmd.Context(), "/brig/v1/images/"+escape(args[0])+what)
			if err != nil {
				return err
			}
			defer body.Close()
			if p.layered {
				return p.files(cmd, tar.NewReader(body), args[1])
			}
			id, err := p.write(cmd, body, args[1])
			if err == nil && args[1] != "-" {
				_, err = fmt.Fprintln(cmd.OutOrStdout(), id)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&p.layered, "layered", false, "one ACI for each layer, with dependencies, into a directory")
	cmd.Flags().BoolVar(&p.incremental, "incremental", false, "what the image adds to its dependencies alone")
	p.compress.flag(cmd, "compress")
	return cmd
}

// write puts an ACI into a file, or on standard output, and returns its ID.
func (p *exporting) write(cmd *cobra.Command, aci io.Reader, to string) (string, error) {
	if to != "-" {
		return saveACI(cmd.Context(), to, aci, p.compress)
	}
	sum := sha512.New()
	packed := p.compress.over(cmd.Context(), io.TeeReader(aci, sum))
	defer packed.Close()
	_, err := io.Copy(cmd.OutOrStdout(), packed)
	return fmt.Sprintf("sha512-%x", sum.Sum(nil)), err
}

// saveACI writes an ACI, compressed, to a file that is there whole or not at all, and returns its ID.
func saveACI(ctx context.Context, path string, aci io.Reader, c compression) (string, error) {
	sum := sha512.New()
	packed := c.over(ctx, io.TeeReader(aci, sum))
	err := save(path, packed)
	packed.Close()
	return fmt.Sprintf("sha512-%x", sum.Sum(nil)), err
}

// files unpacks brigd's answer into dir. Files that an export that breaks off has written are removed.
func (p *exporting) files(cmd *cobra.Command, tr *tar.Reader, dir string) (err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var written []string
	defer func() {
		for _, w := range written {
			if err != nil {
				err = errors.Join(err, os.Remove(w))
			}
		}
	}()
	var lines strings.Builder
	for {
		h, err := tr.Next()
		if err == io.EOF {
			_, err = io.WriteString(cmd.OutOrStdout(), lines.String())
			return err
		}
		if err != nil {
			return fmt.Errorf("read brigd's answer: %w", err)
		}
		if h.Typeflag != tar.TypeReg || !filepath.IsLocal(h.Name) || strings.ContainsRune(h.Name, '/') {
			return fmt.Errorf("brigd's answer holds %q, which is no file's name", h.Name)
		}
		path := filepath.Join(dir, h.Name)
		id, err := saveACI(cmd.Context(), path, tr, p.compress)
		if err != nil {
			return err
		}
		written = append(written, path)
		fmt.Fprintln(&lines, id, path)
	}
}
