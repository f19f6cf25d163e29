package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newLedger() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ledger",
		Short: "Show what became of all events",
		Long: `Shows the server's accounting: received = evaluated + rejected + dropped + in flight, at this
moment. The difference is 0, or the server has a fault.`,
		Args: cobra.NoArgs,
	}
	connect := addClientFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := connect()
		if err != nil {
			return err
		}
		body, err := c.get(cmd.Context(), "/v1/ledger", nil, nil)
		if err != nil {
			return fmt.Errorf("cannot read the ledger: %w", err)
		}
		return printJSON(cmd.OutOrStdout(), body)
	}
	return cmd
}
