"""What any nn.Module is made of: layers, filters and the norms behind them."""
