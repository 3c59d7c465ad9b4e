package console

import "context"

type drawn struct{ stale bool }

func (c *Console) runScreen(ctx context.Context) error { return c.runPlain(ctx) }
