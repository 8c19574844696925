_base_ = "mmseg::mask2former/mask2former_r50_8xb2-160k_ade20k-512x512.py"
model = dict(
    backbone=dict(depth=18, init_cfg=None),
    decode_head=dict(
        in_channels=[64, 128, 256, 512],
        feat_channels=32,
        out_channels=32,
        num_queries=20,
        pixel_decoder=dict(
            encoder=dict(
                num_layers=2,
                layer_cfg=dict(
                    self_attn_cfg=dict(embed_dims=32, num_heads=4),
                    ffn_cfg=dict(embed_dims=32, feedforward_channels=64),
                ),
            ),
            positional_encoding=dict(num_feats=16),
        ),
        positional_encoding=dict(num_feats=16),
        transformer_decoder=dict(
            num_layers=3,
            layer_cfg=dict(
                self_attn_cfg=dict(embed_dims=32, num_heads=4),
                cross_attn_cfg=dict(embed_dims=32, num_heads=4),
                ffn_cfg=dict(embed_dims=32, feedforward_channels=64),
            ),
        ),
        train_cfg=dict(num_points=1024),
    ),
)
