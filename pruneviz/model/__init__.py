"""The structure of any nn.Module: layers, filters and the norms that follow them."""
