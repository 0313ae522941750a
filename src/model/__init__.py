"""U-Net, sketch encoder, reference conditioning and the LightningModule."""
