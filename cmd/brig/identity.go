package main

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

func verifyCommand(host *string) *cobra.Command {
	return &cobra.Command{
		Use: "verify UUID SIGNATURE", Args: cobra.ExactArgs(2),
		Short: "Check that a pod has signed what standard input has",
		Long: "Check that the pod UUID has signed what standard input has: SIGNATURE is what its metadata service answered to hmac/sign.\n" +
			"The exit code is 0 if it has, and 1 if it hasn't, or if that can't be told. The pod may have ended.",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := dial(*host)
			if err != nil {
				return err
			}
			query := url.Values{"uuid": args[:1], "signature": args[1:]}
			body, err := c.post(cmd.Context(), "/brig/v1/identity/verify?"+query.Encode(), "application/octet-stream", cmd.InOrStdin())
			if err != nil {
				return err
			}
			body.Close()
			fmt.Fprintln(cmd.OutOrStdout(), "OK")
			return nil
		},
	}
}

func mdsCommand(host *string) *cobra.Command {
	cmd := &cobra.Command{Use: "mds", Short: "The metadata service"}
	cmd.AddCommand(mdsRotate(host), mdsKeys(host))
	return cmd
}

func mdsRotate(host *string) *cobra.Command {
	keep := 7 * 24 * time.Hour
	cmd := &cobra.Command{
		Use: "rotate", Args: cobra.NoArgs,
		Short: "Make a new key that signs for pods",
		Long: "Make a new key that signs for pods from now on. What the former keys have signed still verifies for the time of --keep; with 0 it\n" +
			"does no more, as is right for a key that somebody else may have.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if keep < 0 || keep%time.Second != 0 {
				return errors.New("--keep must be a whole number of seconds, and not negative")
			}
			c, err := dial(*host)
			if err != nil {
				return err
			}
			body, err := c.post(cmd.Context(), "/brig/v1/metadata/rotate?keep="+strconv.Itoa(int(keep/time.Second)), "application/json", nil)
			if err != nil {
				return err
			}
			return body.Close()
		},
	}
	cmd.Flags().DurationVar(&keep, "keep", keep, "how long old signatures verify")
	return cmd
}

func mdsKeys(host *string) *cobra.Command {
	return &cobra.Command{
		Use: "jwks", Args: cobra.NoArgs,
		Short: "Print the public keys that verify identity tokens, as a JSON Web Key Set",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := dial(*host)
			if err != nil {
				return err
			}
			body, err := c.get(cmd.Context(), "/brig/v1/identity/jwks")
			if err != nil {
				return err
			}
			defer body.Close()
			if _, err = io.Copy(cmd.OutOrStdout(), body); err == nil {
				_, err = fmt.Fprintln(cmd.OutOrStdout())
			}
			return err
		},
	}
}
