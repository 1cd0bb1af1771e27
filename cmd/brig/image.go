package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"
)

// image is one entry of GET /brig/v1/images.
type image struct {
	ID       string
	Tags     []string
	Platform string
	Created  time.Time
	Size     int64
	ACI      struct{ Name, ID string }
}

func imageCommand(host *string) *cobra.Command {
	cmd := &cobra.Command{Use: "image", Short: "Images as App Container Images"}
	cmd.AddCommand(imageList(host), imageExport(host), imageImport(host), imageManifest(host))
	return cmd
}

func imageList(host *string) *cobra.Command {
	full := false
	cmd := &cobra.Command{
		Use: "ls", Aliases: []string{"list"}, Args: cobra.NoArgs,
		Short: "List images with their ACI names and IDs",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := dial(*host)
			if err != nil {
				return err
			}
			var all []image
			if err := c.decode(cmd.Context(), "/brig/v1/images", &all); err != nil {
				return err
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 3, ' ', 0)
			fmt.Fprintln(w, "IMAGE\tACI NAME\tACI ID\tPLATFORM\tSIZE")
			for _, i := range all {
				names := i.Tags
				if len(names) == 0 {
					names = []string{short(i.ID, len("sha256:"))}
				}
				for _, n := range names {
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", n, i.ACI.Name, pending(i.ACI.ID, full), i.Platform, units.HumanSize(float64(i.Size)))
				}
			}
			return w.Flush()
		},
	}
	cmd.Flags().BoolVar(&full, "no-trunc", false, "print whole ACI IDs")
	return cmd
}

// pending stands for an ACI ID that brigd is still computing.
func pending(id string, full bool) string {
	switch {
	case id == "":
		return "(computing)"
	case full:
		return id
	}
	return id[:min(len(id), len("sha512-")+32)]
}

func short(id string, prefix int) string {
	if len(id) < prefix+12 {
		return id
	}
	return id[prefix : prefix+12]
}

// save writes a file that is there whole or not at all.
func save(path string, r io.Reader) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if _, err = io.Copy(f, r); err != nil {
		f.Close()
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err = errors.Join(f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func imageManifest(host *string) *cobra.Command {
	return &cobra.Command{
		Use: "manifest IMAGE", Args: cobra.ExactArgs(1),
		Short: "Print an image's appc manifest",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := dial(*host)
			if err != nil {
				return err
			}
			body, err := c.get(cmd.Context(), "/brig/v1/images/"+escape(args[0])+"/manifest")
			if err != nil {
				return err
			}
			defer body.Close()
			_, err = io.Copy(cmd.OutOrStdout(), body)
			fmt.Fprintln(cmd.OutOrStdout())
			return err
		},
	}
}
