package main

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/brigd/brig/internal/tarfs"
)

// building is one run of brig build.
type building struct {
	dir   string
	files []string // further ones for the working directory
	tags  []string
	quiet bool
}

func buildCommand(host *string) *cobra.Command {
	var p building
	cmd := &cobra.Command{
		Use: "build BASE-IMAGE COMMAND [ARG…]", Args: cobra.MinimumNArgs(2),
		Short: "Build an image by a command that runs in a clone of another one, as Jetpack does",
		Long: "Build an image by a command that runs in a clone of another one. The build directory is copied into a fresh working directory in the\n" +
			"clone's root, the command runs there as root, and what it leaves as manifest.json becomes the image's manifest, completed by what the\n" +
			"base image says. The working directory is not part of the image.\n" +
			"Prints the ACI's ID and the name by which docker knows the image; what the command says goes to standard error.",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := dial(*host)
			if err != nil {
				return err
			}
			if err := p.run(cmd, c, args[0], args[1:]); err != nil {
				return fmt.Errorf("build on %s: %w", args[0], err)
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.SetInterspersed(false) // the command's own options are behind it
	f.StringVarP(&p.dir, "dir", "d", ".", "the build `DIR`ectory")
	f.StringArrayVar(&p.files, "cp", nil, "`FILE` or directory to copy into the working directory too; may be repeated")
	f.StringArrayVarP(&p.tags, "tag", "t", nil, "further `NAME[:TAG]` by which docker shall know the image; may be repeated")
	f.BoolVarP(&p.quiet, "quiet", "q", false, "don't show what the command says")
	return cmd
}

func (p *building) run(cmd *cobra.Command, c *client, base string, args []string) error {
	if st, err := os.Stat(p.dir); err != nil {
		return err
	} else if !st.IsDir() {
		return fmt.Errorf("%s is not a directory", p.dir)
	}
	r, w := io.Pipe()
	defer r.Close()
	go func() { w.CloseWithError(p.pack(cmd.Context(), w)) }() // ends when r is closed
	q := url.Values{"base": {base}, "arg": args, "tag": p.tags}
	req, err := http.NewRequestWithContext(cmd.Context(), http.MethodPost, "http://brig/brig/v1/build?"+q.Encode(), r)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-tar")
	answer, err := c.do(req)
	if err != nil {
		return err
	}
	defer answer.Close()
	return p.report(cmd, answer)
}

// pack writes the build directory and the further files as a tar.
func (p *building) pack(ctx context.Context, w io.Writer) error {
	tw := tar.NewWriter(w)
	if err := tarfs.PackTo(ctx, tw, p.dir, tarfs.PackOptions{}); err != nil {
		return err
	}
	for _, f := range p.files {
		at, err := filepath.Abs(f)
		if err != nil {
			return err
		}
		name := filepath.Base(at)
		if err := tarfs.PackTo(ctx, tw, filepath.Dir(at), tarfs.PackOptions{Name: name, Sub: name}); err != nil {
			return fmt.Errorf("copy %s: %w", f, err)
		}
	}
	return tw.Close()
}

// buildLine is one line of brigd's answer.
type buildLine struct {
	Out, Err []byte
	Error    string
	Result   *struct {
		ACI, Ref string
		Warnings []string
	}
}

// report shows what the command says, and the result.
func (p *building) report(cmd *cobra.Command, answer io.Reader) error {
	for d := json.NewDecoder(answer); ; {
		var l buildLine
		if err := d.Decode(&l); err != nil {
			return fmt.Errorf("read brigd's answer: %w", err)
		}
		switch {
		case l.Error != "":
			return errors.New(l.Error)
		case l.Result != nil:
			for _, w := range l.Result.Warnings {
				fmt.Fprintln(cmd.ErrOrStderr(), "warning:", w)
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s %s\n", l.Result.ACI, l.Result.Ref)
			return err
		case !p.quiet:
			cmd.ErrOrStderr().Write(append(l.Out, l.Err...))
		}
	}
}
