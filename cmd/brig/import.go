package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
)

func imageImport(host *string) *cobra.Command {
	return &cobra.Command{
		Use: "import FILE.aci", Args: cobra.ExactArgs(1),
		Short: "Make an image of an ACI and print its ACI ID and docker's name for it; FILE - is standard input",
		Long: "Make an image of an ACI, compressed with gzip, bzip2, xz, zstd or not at all. What it depends on must have been imported before.\n" +
			"Prints the ACI's ID and the name by which docker knows the image. Signatures are not looked at.",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := dial(*host)
			if err != nil {
				return err
			}
			from := cmd.InOrStdin()
			if args[0] != "-" {
				f, err := os.Open(args[0])
				if err != nil {
					return err
				}
				defer f.Close()
				from = f
			}
			body, err := c.post(cmd.Context(), "/brig/v1/images/import", "application/octet-stream", io.NopCloser(from))
			if err != nil {
				return fmt.Errorf("import %s: %w", args[0], err)
			}
			defer body.Close()
			var got struct {
				ACI, Ref string
				Warnings []string
			}
			if err := json.NewDecoder(body).Decode(&got); err != nil {
				return fmt.Errorf("read brigd's answer: %w", err)
			}
			for _, w := range got.Warnings {
				fmt.Fprintln(cmd.ErrOrStderr(), "warning:", w)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s %s\n", got.ACI, got.Ref)
			return err
		},
	}
}
